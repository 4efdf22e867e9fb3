"""As bench.child, an iteration at a time: ``python -m bench.child_in_turn '{"arch": ...}'``.

Before each iteration it prints an empty line and waits for a line on standard input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from bench.child import Batch, random_batches, run
from bench.harness import Case


def when_told(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields each batch when it is told to."""
    for batch in batches:
        print(flush=True)
        sys.stdin.readline()
        yield batch


if __name__ == "__main__":
    case = Case(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(run(case, when_told(random_batches(case))))))
