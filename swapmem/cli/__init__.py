"""The ``swapmem`` command: `doctor`, `bench`, `explain` and `plan`.

Alone in this package, `main` prints and ends the process; all else returns or raises.
"""

import sys

__all__ = ["main"]


def main() -> int:
    """Runs the command line of this process; the entry point of ``swapmem``.

    Returns:
        The exit status where the extra ``cli`` is not installed; else the command ends the process
        itself, with 0, 1 (something failed or is unusable) or 2 (bad input).
    """
    try:
        from swapmem.cli.commands import swapmem_command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("swapmem"):
            raise
        sys.stderr.write(
            f"swapmem: the command needs {error.name}: pip install 'swapmem[cli]' "
            "(the library itself does not)\n"
        )
        return 1
    swapmem_command(prog_name="swapmem")
    return 0
