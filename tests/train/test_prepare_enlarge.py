"""Enlarging images and averaging them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_helpers import done, files, refused, run, write_tree

from train.dataset import read_mean, read_rgb


@pytest.fixture
def tree(in_tmp):
    return write_tree("full", {"a": 3, "b": 2})


def test_every_image_is_stretched_under_its_path(tree):
    done("enlarge", tree, "large", "--size", 30)
    assert {name for name in files("large") if name[0] != "."} == set(files("full"))
    for path in Path("large").rglob("*.JPEG"):
        with Image.open(path) as image:
            assert (image.size, image.format) == ((30, 30), "JPEG")


def test_run_again_it_makes_what_is_missing_and_touches_nothing_else(tree):
    done("enlarge", tree, "large", "--size", 30)
    before = files("large")
    Path("large/b/photo 01.JPEG").unlink()
    stamp = Path("large/a/photo 00.JPEG").stat().st_mtime_ns
    done("enlarge", tree, "large", "--size", 30)
    assert files("large") == before
    assert Path("large/a/photo 00.JPEG").stat().st_mtime_ns == stamp


def test_images_of_other_options_or_other_files_are_not_mixed(tree):
    done("enlarge", tree, "large", "--size", 30)
    assert "stretch [30, 30] and not [31, 31]" in refused("enlarge", tree, "large", "--size", 31)
    assert "not empty" in refused("enlarge", "large", "full", "--size", 30)


def test_unreadable_images_are_counted_and_listed(tree):
    Path("full/a/photo 01.JPEG").write_bytes(b"junk")
    result = done("enlarge", tree, "large", "--size", 30)
    assert "4 images of 30x30" in result.stdout
    assert "1 images cannot be read: large.unreadable.txt" in result.stderr
    assert Path("large.unreadable.txt").read_text().startswith("a/photo 01.JPEG\tcannot identify")
    for path in Path("full").rglob("*.JPEG"):
        path.write_bytes(b"junk")
    assert "not one image can be read" in refused("enlarge", tree, "other", "--size", 30)


def test_a_full_disk_leaves_no_half_image(tree, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        done("enlarge", tree, "claimed", "--size", 30)
        patch.setattr("swapmem.files.os.fsync", full)
        assert "No space left" in refused("enlarge", tree, "large", "--size", 30)
    assert not [name for name in files("large") if name.endswith("JPEG")]
    done("enlarge", tree, "large", "--size", 30)
    assert files("large") == files("claimed")


def test_the_mean_of_enlarged_images_is_what_training_reads(tree):
    done("enlarge", tree, "large", "--size", 16)
    done("list", "x", "large")
    done("mean", "x.lst", "--root", "large", "--output", "m.npy")
    expected = np.mean([read_rgb(path) for path in Path("large").rglob("*.JPEG")], axis=0)
    np.testing.assert_allclose(read_mean("m.npy"), expected, rtol=1e-6)


def test_the_mean_of_packed_images_is_that_of_the_records(tree):
    done("list", "x", tree)
    done("pack", "x", tree, "--encoding", ".png")
    done("mean", "x.rec", "-o", "packed.npy")
    done("mean", "x.lst", "-R", tree, "-o", "listed.npy")
    np.testing.assert_array_equal(read_mean("packed.npy"), read_mean("listed.npy"))


def test_a_mean_for_each_colour_takes_images_of_any_size(tree):
    Image.fromarray(np.full((3, 5, 3), (10, 20, 30), np.uint8)).save("full/a/small.png")
    done("list", "x", tree)
    assert "all must have the same size" in refused("mean", "x.lst", "-R", tree)
    done("mean", "x.lst", "-R", tree, "--per-channel")
    pictures = [read_rgb(p).reshape(3, -1) for p in Path("full").rglob("*.*")]
    expected = np.concatenate(pictures, axis=1).mean(1)
    assert read_mean("mean.npy").shape == (3, 1, 1)
    np.testing.assert_allclose(read_mean("mean.npy")[:, 0, 0], expected, rtol=1e-6)


def test_bad_input_leaves_the_old_mean(tree):
    Path("mean.npy").write_text("old")
    assert "absent.txt: cannot read the list file" in refused("mean", "absent.txt")
    assert Path("mean.npy").read_text() == "old"


def test_without_arguments_it_says_what_it_can_do(in_tmp):
    assert "Usage: prepare" in run().output
    assert "No such command 'pakc'" in refused("pakc")
