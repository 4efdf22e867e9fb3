"""``make gpu-check``: proves and measures swapmem on a GPU, in ten minutes.

    python -m bench.gpu_check

With a GPU: builds and runs the C++ suites of the CUDA device, runs the Python tests that need a
GPU, measures blocks beside plain driver copies (`swapmem bench`), and trains two networks in core
and out of core. Without one it says so and runs what can run on the fake driver. Prints a table and
writes a JSON file to $OUT, by default bench/results if there is a GPU. Exit status: 0 everything
passed and every bar was met; 1 not; 2 bad input.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.gpu_parts import Part, PartResult, run_part, run_parts
from bench.gpu_training import CASES, Comparison, Link, compare
from swapmem.cli.raw_driver import DriverError, Gpu
from swapmem.cli.results import machine, versions, write_json
from swapmem.cli.site import cuda_devices
from swapmem.sizes import format_bytes

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = 1
TOTAL_SECONDS = 590.0
_BUILD = "build the C++ suites"
_BUILD_DIR = "build/cpp"
# They need what only the fake driver can do, on a machine with a GPU as well.
_FAKE_SUITES = "^(arrivals|cuda|driver|fake_driver|fences|offers|pinned|reuse|tiered)"
_FAKE_TESTS = [
    "tests/test_gpu_blocks.py",
    "tests/test_cupy_allocator.py",
    "tests/test_cupy_classes.py",
    "tests/test_manager_cuda.py",
]
_FAKE_LIBRARY = "tests/cpp/libswapmem_fake_cuda.so"
_DRIVER = "SWAPMEM_CUDA_DRIVER"
_MIB = 1 << 20
_WIDTH = 140


@dataclass(frozen=True)
class Bar:
    """A ratio that a group of cases of ``swapmem bench`` has to reach.

    Attributes:
        actions: the second part of their keys.
        least_bytes: of a block.
        most_bytes: of a block.
        limit: for ours / what it is measured against.
        at_least: whether the ratio has to reach the limit or to stay within it.
    """

    actions: tuple[str, ...]
    least_bytes: int
    most_bytes: int
    limit: float
    at_least: bool

    def of(self, case: dict[str, Any]) -> bool:
        """Whether it holds for a case."""
        action = case["key"].split("/")[1]
        return action in self.actions and self.least_bytes <= case["block_bytes"] <= self.most_bytes

    def met(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit


_ANY_BYTES = 1 << 62
BARS = [
    Bar(("out", "in"), 16 * _MIB, _ANY_BYTES, 0.97, at_least=True),
    Bar(("out", "in"), 2 * _MIB, 2 * _MIB, 0.80, at_least=True),
    Bar(("both",), 16 * _MIB, _ANY_BYTES, 0.95, at_least=True),
    Bar(("allocate",), 0, _ANY_BYTES, 1.0, at_least=False),
]


def main(argv: list[str] | None = None) -> int:
    """Runs the check and returns its exit status."""
    args = _parser().parse_args(argv)
    # What is measured on an imitation is worth nothing: whoever set the variable meant other runs.
    os.environ.pop(_DRIVER, None)
    # Its commands find the package also where it is not installed.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    devices, reason = cuda_devices()
    out = Path(args.out) if args.out else None
    if out is None and devices:
        out = ROOT / "bench" / "results"
    if out is not None and not out.is_dir():
        print(f"gpu_check.py: the directory {out} does not exist", file=sys.stderr)
        return 2
    deadline = time.monotonic() + TOTAL_SECONDS
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        # Where nobody looks at a terminal, its width says nothing.
        console.width = _WIDTH
    if not devices:
        console.print(f"No GPU here ({reason}).", markup=False)
        console.print("What can run on the fake driver runs; nothing is measured on a GPU.")
    with tempfile.TemporaryDirectory(prefix="swapmem-gpu-check-") as scratch:
        bench_json = Path(scratch) / "bench.json"
        parts = parts_on_gpu(bench_json) if devices else parts_without_gpu()
        results = run_parts(
            parts, ROOT, deadline, tell=functools.partial(console.print, markup=False)
        )
        bench = json.loads(bench_json.read_text()) if bench_json.exists() else None
    comparisons = []
    if devices:
        for case in CASES:
            console.print(f"train {case.arch} ...")
            comparisons.append(
                compare(
                    case, link_of(bench), args.managed, lambda part: run_part(part, ROOT, deadline)
                )
            )
    content = record(results, bench, comparisons, reason)
    console.print(parts_table(results))
    for result in results:
        if result.status in ("failed", "timed out"):
            console.print(f"--- {result.name}: {result.status}\n{result.output}", markup=False)
    if bench is not None:
        console.print(bars_table(content["bars"]))
    if comparisons:
        console.print(training_table(comparisons))
    for line in conclusions(content):
        console.print(line, markup=False)
    if out is not None:
        path = out / f"gpu-check-{datetime.datetime.now(datetime.UTC).date()}.json"
        write_json(path, content)
        console.print(f"written to {path}", markup=False)
    return 0 if content["passed"] else 1


def parts_on_gpu(bench_json: Path) -> list[Part]:
    """What runs with a GPU, apart from training."""
    python = sys.executable
    return [
        *_build_parts(),
        Part(
            "Python tests on the GPU",
            [[python, "-m", "pytest", "-q", "-m", "gpu"]],
            90,
            nothing_status=5,
        ),
        Part(
            "swapmem bench",
            [
                [
                    *(python, "-m", "swapmem", "bench", "--filter", "^cuda"),
                    *("--seconds", "1", "--json", str(bench_json)),
                ]
            ],
            150,
        ),
    ]


def parts_without_gpu() -> list[Part]:
    """What runs without one."""
    python = sys.executable
    return [
        *_build_parts(),
        Part(
            "Python tests, fake driver",
            [[python, "-m", "pytest", "-q", *_FAKE_TESTS]],
            150,
            needs=_BUILD,
            environment={"SWAPMEM_FAKE_CUDA": str(ROOT / _BUILD_DIR / _FAKE_LIBRARY)},
        ),
        Part("swapmem doctor", [[python, "-m", "swapmem", "doctor"]], 30),
    ]


def _build_parts() -> list[Part]:
    configure = [
        *(_tool("cmake"), "-S", ".", "-B", _BUILD_DIR, "-DCMAKE_BUILD_TYPE=RelWithDebInfo"),
        *("-DSWAPMEM_PYTHON=OFF", "-DSWAPMEM_TESTS=ON"),
        # A folder that is there was configured by make, with the same generator.
        *(("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}") if _has("ninja") else ()),
    ]
    build = [_tool("cmake"), "--build", _BUILD_DIR, "--parallel"]
    return [
        Part(_BUILD, [configure, build], 300),
        Part(
            "C++ suites, fake driver",
            [[_tool("ctest"), "--test-dir", _BUILD_DIR, "--no-tests=error", "-R", _FAKE_SUITES]],
            120,
            needs=_BUILD,
        ),
    ]


def _tool(name: str) -> str:
    """The tool of this Python's environment, else the system's."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def _has(name: str) -> bool:
    return Path(_tool(name)).is_absolute()


def link_of(bench: dict[str, Any] | None) -> Link:
    """Takes the rates of the raw pinned copies from what ``swapmem bench`` measured."""

    def rate(key: str) -> float:
        for case in (bench or {}).get("cases", []):
            if case["key"] == key and case["beside"]["samples"]:
                return float(statistics.median(case["beside"]["samples"])) * 1e9
        return 0.0

    return Link(out_rate=rate("cuda0/out/64MiB"), in_rate=rate("cuda0/in/64MiB"))


def record(
    results: Sequence[PartResult],
    bench: dict[str, Any] | None,
    comparisons: Sequence[Comparison],
    no_device: str,
) -> dict[str, Any]:
    """Returns everything, fit for JSON."""
    bars = bars_of(bench)
    passed = (
        all(result.status == "passed" for result in results)
        and all(bar["met"] for bar in bars)
        and all(comparison.passed for comparison in comparisons)
    )
    return {
        "schema": SCHEMA,
        "made_by": "gpu_check",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "gpu": not no_device,
        "no_device": no_device,
        "driver": _driver() if not no_device else "",
        "versions": versions(),
        "machine": machine(),
        "passed": passed,
        "parts": [asdict(result) for result in results],
        "bars": bars,
        "bench": bench,
        "training": [asdict(comparison) for comparison in comparisons],
    }


def _driver() -> str:
    try:
        return f"CUDA {Gpu(0).version}"
    except DriverError as error:
        return str(error)


def bars_of(bench: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Sets the cases that have a bar beside it; a case that failed does not meet it."""
    rows = []
    for case in (bench or {}).get("cases", []):
        for bar in BARS:
            if bar.of(case) and not case["skipped"]:
                ratio = case["ratio"]
                rows.append(
                    {
                        "key": case["key"],
                        "ratio": ratio,
                        "limit": bar.limit,
                        "at_least": bar.at_least,
                        "met": ratio is not None and bar.met(ratio),
                    }
                )
    return rows


def parts_table(results: Sequence[PartResult]) -> Table:
    table = Table("part", "", "seconds", "", box=box.SIMPLE)
    for result in results:
        table.add_row(result.name, result.status, f"{result.seconds:.0f}", result.reason)
    return table


def bars_table(bars: Sequence[dict[str, Any]]) -> Table:
    table = Table("case", "ratio", "bar", "met", box=box.SIMPLE)
    for bar in bars:
        table.add_row(
            bar["key"],
            "failed" if bar["ratio"] is None else f"{bar['ratio']:.2f}",
            f"{'>=' if bar['at_least'] else '<='} {bar['limit']:g}",
            "yes" if bar["met"] else "NO",
        )
    return table


def training_table(comparisons: Sequence[Comparison]) -> Table:
    table = Table(
        *("seconds an iteration", "needs", "budget", "in core", "no limit", "out of core"),
        *("managed", "bound", "weights"),
        box=box.SIMPLE,
    )

    def median(samples: Sequence[float]) -> str:
        return f"{statistics.median(samples):.3f}" if samples else "-"

    for found in comparisons:
        if found.error:
            table.add_row(found.what, *["-"] * 7, "-")
            continue
        table.add_row(
            found.what,
            format_bytes(found.peak_bytes),
            format_bytes(found.budget_bytes),
            median(found.in_core_seconds),
            median(found.unlimited_seconds),
            median(found.out_of_core_seconds),
            median(found.managed_seconds),
            f"{found.bound_seconds:.3f}",
            "identical" if found.passed else "DIFFERENT",
        )
    return table


def conclusions(content: dict[str, Any]) -> list[str]:
    """Says in a few lines what is wrong, or that nothing is."""
    lines = [
        f"not passed: {part['name']}" for part in content["parts"] if part["status"] != "passed"
    ]
    missed = [bar["key"] for bar in content["bars"] if not bar["met"]]
    if missed:
        lines.append(f"bars not met: {', '.join(missed)}")
    for found in content["training"]:
        if found["error"]:
            lines.append(f"no figures: {found['error']}")
        elif not found["identical_without_limit"]:
            lines.append(f"{found['what']}: the weights depend on the budget, which is a bug")
        elif not found["identical_to_cupy"]:
            lines.append(f"{found['what']}: the weights are not those that CuPy alone gives")
        elif found["managed_reason"]:
            lines.append(f"{found['what']}, managed memory: {found['managed_reason']}")
    if content["passed"]:
        where = "on the GPU" if content["gpu"] else "on the fake driver; not yet run on a GPU here"
        lines.append(f"everything passed, {where}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu_check.py", description="Prove and measure swapmem on a GPU, in ten minutes."
    )
    parser.add_argument(
        "--out",
        default=os.environ.get("OUT"),
        help="directory of the JSON file; by default $OUT, else bench/results if there is a GPU",
    )
    parser.add_argument(
        "--managed",
        action="store_true",
        help="also train on CuPy's managed memory, with the device filled up to the same limit; "
        "more managed memory than is free can hang a GPU: only on a machine of your own",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
