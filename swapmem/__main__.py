"""``python -m swapmem``: the same as the ``swapmem`` command."""

import sys

from swapmem.cli import main

if __name__ == "__main__":
    sys.exit(main())
