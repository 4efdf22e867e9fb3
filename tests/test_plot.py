"""Pictures of traces: what is drawn, checked on made-up traces and on the pixels of the result."""

import builtins
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from swapmem import plot

MIB = 1 << 20


class Event(NamedTuple):
    """A trace event with every field optional but its time and kind."""

    time_seconds: float
    kind: str
    block: int = 0
    bytes: int = 0
    op: str = ""
    seconds: float = 0.0
    resident_bytes: int = 0
    charged_bytes: int = 0


def two_iterations() -> list[Any]:
    trace = [Event(0.0, "allocate", block=1, bytes=8 * MIB, resident_bytes=8 * MIB)]
    for begin in (1.0, 2.0, 3.0):
        trace += [
            Event(begin, "iteration", resident_bytes=8 * MIB, charged_bytes=9 * MIB),
            Event(begin + 0.2, "swap_out", 1, 8 * MIB, "Conv", 0.1, 0, 2 * MIB),
            Event(begin + 0.5, "swap_in", 1, 8 * MIB, "Conv", 0.2, 8 * MIB, 9 * MIB),
            Event(begin + 0.5, "stall", 1, 8 * MIB, "Conv", 0.1, 8 * MIB, 9 * MIB),
            Event(begin + 0.8, "fault", 1, 8 * MIB, "", 0.05, 8 * MIB, 9 * MIB),
        ]
    return trace


def test_an_iteration_ends_where_the_next_begins() -> None:
    first, second = plot.iterations(two_iterations())
    assert (first.start_seconds, first.end_seconds) == (1.0, 2.0)
    assert (second.start_seconds, second.end_seconds) == (2.0, 3.0)
    assert [event.kind for event in first.events].count("iteration") == 1


def test_a_trace_without_iterations_counts_as_one() -> None:
    trace: list[Any] = [Event(1.0, "allocate"), Event(4.0, "free")]
    (only,) = plot.iterations(trace)
    assert (only.start_seconds, only.end_seconds) == (1.0, 4.0)
    assert len(only.events) == 2


def test_spans_in_one_row_never_overlap_and_rows_are_few() -> None:
    spans = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.5, 5.0), (0.5, 0.6)]
    rows = plot._stack(spans)
    assert sorted(span for row in rows for span in row) == sorted(spans)
    assert len(rows) == 2
    for row in rows:
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(row))


def test_live_bytes_follow_allocations_and_frees() -> None:
    trace: list[Any] = [
        Event(0.0, "allocate", block=1, bytes=5),
        Event(1.0, "swap_out", block=1, bytes=5),
        Event(2.0, "allocate", block=2, bytes=7),
        Event(3.0, "free", block=1),
    ]
    assert plot._live_bytes(trace) == [(0.0, 5), (2.0, 12), (3.0, 7)]


def test_live_bytes_are_unknown_when_the_trace_lost_its_beginning() -> None:
    trace: list[Any] = [Event(0.0, "allocate", block=2, bytes=7), Event(1.0, "free", block=1)]
    assert plot._live_bytes(trace) is None


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_picture_says_budget_bytes_moved_and_waiting_time(tmp_path: Path, suffix: str) -> None:
    path = plot.plot_residency(
        two_iterations(), tmp_path / f"picture.{suffix}", budget_bytes=10 * MIB, title="A title"
    )
    assert path == tmp_path / f"picture.{suffix}"
    assert path.stat().st_size > 1000


def test_labels_carry_the_figures_of_the_chosen_iteration() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    plot._draw_lanes(axes, plot.iterations(two_iterations())[0])
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "swapped out, 8 MiB",
        "swapped in, 8 MiB",
        "stalls, 0.10 s",
        "faults, 0.05 s",
    ]


def test_a_bar_ends_when_its_transfer_did() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    plot._draw_lanes(axes, plot.iterations(two_iterations())[0])
    bars = [c.get_paths()[0].get_extents() for c in axes.collections]
    assert (bars[0].x0, bars[0].x1) == pytest.approx((0.1, 0.2))
    assert (bars[1].x0, bars[1].x1) == pytest.approx((0.3, 0.5))


def test_an_empty_trace_is_an_error() -> None:
    with pytest.raises(ValueError, match="trace is empty"):
        plot.plot_residency([], "never.png")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **keywords: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return original(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"swapmem\[plot\]"):
        plot.plot_residency(two_iterations(), "never.png")
