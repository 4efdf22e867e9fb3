"""The mean image."""

import os

import numpy as np
import pytest
from PIL import Image

from train.compute_mean import main, mean_image
from train.dataset import read_mean, read_rgb
from train.errors import InputError
from train.imagelist import read_list


@pytest.mark.parametrize("jobs", [0, 3])
def test_the_mean_is_that_of_all_images(write_list, jobs):
    images = read_list(write_list("some", 150, (4, 6)))
    expected = np.mean([read_rgb(path) for path in images.paths], axis=0, dtype=np.float64)
    mean = mean_image(images, jobs)
    assert (mean.dtype, mean.shape) == (np.float32, (3, 4, 6))
    np.testing.assert_array_equal(mean, expected.astype(np.float32))


def test_what_is_written_is_what_training_reads(write_list, capsys):
    assert main([write_list("some", 5), "--output", "the mean.npy"]) == 0
    expected = mean_image(read_list("some.txt"))
    np.testing.assert_array_equal(read_mean("the mean.npy"), expected)
    assert capsys.readouterr().out == "the mean.npy: the mean of 5 images of 12x12\n"


def test_paths_start_from_the_root(write_list, in_tmp, monkeypatch):
    source = in_tmp / write_list("some", 2)
    (in_tmp / "deeper").mkdir()
    monkeypatch.chdir("deeper")
    assert main([str(source), "--root", ".."]) == 0
    assert os.listdir() == ["mean.npy"]


def test_an_image_of_another_size_is_named_with_file_and_line(write_list, in_tmp):
    write_list("some", 70)
    Image.fromarray(np.zeros((12, 13, 3), np.uint8)).save(in_tmp / "some 67.png")
    with pytest.raises(InputError, match=r"some.txt:68: './some 67.png' is 12x13, .* are 12x12"):
        mean_image(read_list("some.txt"), jobs=2)


def test_a_failure_is_one_line_and_leaves_the_old_mean(write_list, in_tmp, capsys):
    write_list("some", 3)
    (in_tmp / "some 1.png").unlink()
    (in_tmp / "mean.npy").write_text("old")
    assert main(["some.txt"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("compute_mean.py: error: some.txt:2: cannot read the image")
    assert error.count("\n") == 1
    assert (in_tmp / "mean.npy").read_text() == "old"
    assert main(["absent.txt"]) == 2
