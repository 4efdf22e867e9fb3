"""The real run: its images are packed so that they can be trained on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train import dataset, real_run

CLASSES, EACH = 2, 6


@pytest.fixture
def folders(in_tmp: Path) -> Path:
    """Images of two classes, light and dark, of many sizes."""
    random = np.random.default_rng(0)
    for name in range(CLASSES):
        (in_tmp / "images" / f"class {name}").mkdir(parents=True)
        for number in range(EACH):
            size = (*random.integers(20, 60, 2), 3)
            pixels = random.integers(0, 100, size, dtype=np.uint8) + np.uint8(150 * name)
            Image.fromarray(pixels).save(in_tmp / "images" / f"class {name}" / f"{number}.png")
    # Deeper ones count for the folder at the top.
    deep = in_tmp / "images" / "class 1" / "deep"
    deep.mkdir()
    for number in (1, 2):
        (in_tmp / "images" / "class 1" / f"{number}.png").rename(deep / f"{number}.png")
    (in_tmp / "images" / "few").mkdir()
    Image.new("RGB", (20, 20)).save(in_tmp / "images" / "few" / "0.png")
    return in_tmp / "images"


def test_images_of_any_size_become_records_of_both_parts_with_a_mean(folders, in_tmp):
    args = real_run._parser().parse_args([str(folders), "--insize=16", "--per-class=2"])
    out = in_tmp / "out"
    assert real_run.pack(args, out) == CLASSES
    mean = dataset.read_mean(out / "mean.npy")
    assert mean.shape == (3, 18, 18)
    for name, each in (("train", EACH - 2), ("val", 2)):
        images = dataset.open_images(out / f"{name}.rec", classes=CLASSES)
        assert np.bincount(images.labels).tolist() == [each] * CLASSES
        example, _ = dataset.CentreCrops(images, mean, 16).example(0, 0)
        assert example.shape == (3, 16, 16)
    assert real_run.linear_accuracy(out, 16) == 1
    assert (out / "classes.txt").read_text().split("\n")[:2] == ["class 0", "class 1"]
    assert len(list(folders.rglob("*.png"))) == CLASSES * EACH + 1


def test_images_that_are_not_there_end_the_command_before_anything_is_trained(in_tmp, capsys):
    assert real_run.main(["nowhere"]) == 2
    assert "there is no such directory" in capsys.readouterr().err
    assert not list(in_tmp.rglob("*.rec"))
