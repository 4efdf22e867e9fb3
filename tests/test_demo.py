"""The parts of the demo that decide and say something; the runs themselves are the engine's."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from swapmem.planner.plan import Plan
from train import demo, demo_images, measure
from train.compute_mean import mean_image
from train.imagelist import read_list
from train.measure import Measurement

MIB = 1 << 20


def stats(**changes: int | float | str) -> dict[str, int | float | str]:
    return {
        "budget_bytes": 100 * MIB,
        "peak_charged_bytes": 90 * MIB,
        "peak_live_bytes": 400 * MIB,
        "swap_out_bytes": 300 * MIB,
        "swap_in_bytes": 310 * MIB,
        "faults": 0,
        "stall_seconds": 0.25,
        "largest_op": "Conv",
        "largest_op_bytes": 60 * MIB,
        **changes,
    }


def measured_plan() -> Plan:
    return Plan((), (), (), 1.0, 1.0, 1.0, 0, 0, 0)


def measurement(seconds: list[float], **changes: int | float | str) -> Measurement:
    return Measurement(seconds, [2.0, 1.5], 70 * MIB, 200 * MIB, "0" * 64, stats(**changes))


def test_the_budget_is_the_share_of_the_peak() -> None:
    size, why = demo.budget(stats(), 0.25)
    assert size == 100 * MIB
    assert why == "25% of the 400 MiB that the network needs"


def test_the_budget_is_never_less_than_the_largest_op_needs() -> None:
    size, why = demo.budget(stats(largest_op_bytes=120 * MIB), 0.25)
    assert size == 120 * MIB
    assert "Conv" in why
    assert "30%" in why


def test_the_conclusion_tells_memory_time_and_weights() -> None:
    runs = {
        "stock NumPy": Measurement([9.0, 4.0, 4.0], [], 0, 0, "", {}),
        "unlimited": measurement([9.0, 3.0, 3.0]),
        "out of core": measurement([9.0, 5.0, 5.0]),
    }
    taken = slice(1, 3)
    assert demo.conclusion(runs, taken, 100 * MIB, identical=True) == (
        "The network needs 400 MiB and was trained in 100 MiB: 25% of the memory, 1.25 times the "
        "time of stock NumPy in core, the same weights bit for bit."
    )
    assert "DIFFERENT WEIGHTS" in demo.conclusion(runs, taken, 100 * MIB, identical=False)


def test_only_iterations_count_that_ran_with_the_plan_to_stay():
    plan, other = measured_plan(), measured_plan()
    assert measure._learning([None, None]) == 1
    assert measure._learning([None, plan, plan, plan]) == 2
    assert measure._learning([None, other, plan, plan]) == 3
    assert measure._learning([plan, other, plan, plan]) == 3
    seconds = [9.0, 5.0, 5.0, 4.0, 4.0, 4.0]
    runs = {
        "stock NumPy": Measurement(seconds, [], 0, 0, "", {}),
        "out of core": replace(measurement(seconds), learning=3),
    }
    taken = demo.settled(runs)
    assert taken == slice(3, 6)
    assert demo.how_taken(runs["out of core"], taken).startswith("median of iterations 4 to 6")
    runs["out of core"] = replace(runs["out of core"], learning=5)
    taken = demo.settled(runs)
    assert demo.how_taken(runs["out of core"], taken).startswith("of iteration 6; from those")
    runs["out of core"] = replace(runs["out of core"], learning=6)
    taken = demo.settled(runs)
    assert taken == slice(5, 6)
    assert "may not be the one to stay" in demo.how_taken(runs["out of core"], taken)


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    runs = {
        "stock NumPy": Measurement([9.0, 4.0], [2.5, 2.4], 70 * MIB, 1300 * MIB, "f" * 64, {}),
        "unlimited": measurement([9.0, 3.0], budget_bytes=19_284 * MIB),
        "out of core": measurement([9.0, 5.0], swap_out_bytes=19_284 * MIB),
    }
    console = Console(width=80)
    with console.capture() as capture:
        console.print(demo.table(runs, slice(1, 2)))
    lines = capture.get().splitlines()
    assert len(lines) == 4 + 12  # no cell is wrapped
    assert any("peak RSS" in line and "1,300 MiB" in line and "200 MiB" in line for line in lines)


def test_images_lists_and_mean_fit_the_trainer(tmp_path: Path) -> None:
    source = demo_images.load(12)
    listing = demo_images.write(source, tmp_path / "with a space", side=48)
    images = read_list(listing, listing.parent, classes=demo_images.CLASSES)
    assert list(images.labels) == source.labels.tolist()
    with Image.open(images.paths[0]) as image:
        assert (image.size, image.mode) == ((48, 48), "RGB")
    assert mean_image(images).shape == (3, 48, 48)


def test_without_fashion_mnist_digits_take_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_images, "FASHION_MNIST", tmp_path / "missing")
    source = demo_images.load(100)
    assert source.images.shape == (100, 8, 8)
    assert source.images.dtype == np.uint8
    assert source.images.max() == 255
    assert set(source.labels) == set(range(10))


def test_an_idx_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])))
    np.testing.assert_array_equal(demo_images.read_idx(path), [[0, 1, 2], [3, 4, 5]])


def test_a_foreign_idx_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "floats.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 13, 1, 0, 0, 0, 0])))
    with pytest.raises(ValueError, match=r"floats\.gz: not an IDX file of bytes"):
        demo_images.read_idx(path)
