"""What will work on this machine, what will not, and why."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from swapmem.cli import checks_gpu, checks_memory, checks_software, checks_spill
from swapmem.cli.finding import Finding


def examine(spill_dir: str | None) -> Iterator[Finding]:
    """Looks at everything; takes a few seconds, most of them for measured rates.

    Args:
        spill_dir: the directory that swapped-out bytes would go to; None is the default one.
    """
    yield from checks_software.check()
    yield from checks_gpu.check()
    yield from checks_memory.check()
    yield from checks_spill.check(spill_dir or tempfile.gettempdir(), spill_dir is None)
