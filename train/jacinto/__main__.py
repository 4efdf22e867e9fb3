"""Trains JacintoNet11 in stages, and says what became of accuracy and weights.

    python -m train.jacinto train.txt val.txt --root images --mean mean.npy

Exit status: 0 done; 1 the run failed; 2 an option or a file cannot be used; 130 interrupted, and
the same command goes on from the newest snapshot.
"""

import contextlib
import sys
from pathlib import Path

from rich.console import Console

import swapmem
from train.data import read_data
from train.devices import choose_device, make_manager, memory_options
from train.errors import InputError
from train.jacinto import arguments, summary
from train.jacinto.stages import carry_out
from train.parallel import ALONE


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = arguments.parse(argv)
    preset = arguments.preset_of(args)
    console = Console(highlight=False)
    try:
        device = choose_device(args.gpu)
        data = read_data(args, ALONE)
        with make_manager(memory_options(args, device)) or contextlib.nullcontext() as memory:
            stages = carry_out(args, preset, data, device)
        if memory is not None:
            print(memory.report(), flush=True)
        summary.save_summary(stages, preset.as_dict(), Path(args.out))
    except InputError as error:
        return _failed(2, f"error: {error}")
    except (swapmem.Error, OSError) as error:
        return _failed(1, f"failed: {error}")
    except KeyboardInterrupt:
        return _failed(130, "interrupted; the same command goes on from the newest snapshot")
    console.print(summary.accuracy_table(stages))
    console.print(summary.layer_table(stages))
    console.print(f"{args.out}/summary.json, {args.out}/stages.png")
    return 0


def _failed(status: int, message: str) -> int:
    print(f"train.jacinto: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
