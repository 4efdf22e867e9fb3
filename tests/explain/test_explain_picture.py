"""The picture of a timeline: what is drawn, looked for in the pixels."""

from __future__ import annotations

import builtins
import itertools
from pathlib import Path
from typing import Any

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from swapmem.explain import colors
from swapmem.explain.measured import measured
from swapmem.explain.picture import draw
from swapmem.explain.run_file import Run
from swapmem.explain.timeline import Timeline


def pixels(path: Path, color: str) -> np.ndarray[Any, Any]:
    """Rows and columns of what has a colour, without the legend on the right."""
    image = matplotlib.image.imread(path)[:, :1380, :3]
    near = np.abs(image - matplotlib.colors.to_rgb(color)).max(axis=2) < 0.02
    return np.argwhere(near)


@pytest.fixture(scope="module")
def picture(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(measured(run), tmp_path_factory.mktemp("picture") / "run.png", "a heading")


@pytest.mark.parametrize(
    "color",
    [*colors.TIERS[:2], colors.OUT, colors.IN, colors.STALL, *list(colors.PHASES.values())[:2]],
)
def test_everything_has_its_colour_in_it(picture: Path, color: str) -> None:
    assert len(pixels(picture, color)) > 300


def test_lanes_lie_below_memory_and_in_their_order(picture: Path) -> None:
    rows = []
    for color in (colors.TIERS[0], colors.PHASES["backward"], colors.OUT, colors.IN, colors.STALL):
        rows.append(float(np.median(pixels(picture, color)[:, 0])))
    assert all(below - above > 50 for above, below in itertools.pairwise(rows))


def test_the_device_stays_below_the_budget_line(picture: Path) -> None:
    black = pixels(picture, colors.BUDGET)
    inside = black[black[:, 1] > 200]
    rows, counts = np.unique(inside[:, 0], return_counts=True)
    above_axes = rows[counts > 400]  # the frame, and the dashes of the budget
    device = pixels(picture, colors.TIERS[0])
    top = device[:, 0].min()
    assert any(abs(row - top) < 8 for row in above_axes)


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_other_formats_go_by_the_suffix(run: Run, suffix: str, tmp_path: Path) -> None:
    path = draw(measured(run), tmp_path / f"run{suffix}")
    assert path.read_bytes()[:5] in (b"<?xml", b"%PDF-")


def test_an_iteration_in_which_nothing_happened_can_be_drawn(tmp_path: Path) -> None:
    from swapmem.explain.timeline import Tier

    empty = Timeline("measured", 1.0, (), (), (), (), (Tier("device", ((0.0, 0),), None),))
    assert draw(empty, tmp_path / "empty.png").stat().st_size > 0


def test_without_matplotlib_the_message_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(ImportError, match=r"pip install 'swapmem\[plot\]'"):
        draw(measured(run), tmp_path / "run.png")
