"""Fashion-MNIST's packed files: read whole or refused, and written as images and lists."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train import dataset, fashion_mnist
from train.errors import InputError
from train.imagelist import read_list


def packed(path: str, values: np.ndarray, kind: int = 8) -> None:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape)
    Path(path).write_bytes(gzip.compress(head + values.tobytes()))


@pytest.fixture
def source() -> str:
    Path("packed").mkdir()
    random = np.random.default_rng(2)
    for stem, count in (("train", 40), ("t10k", 20)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        packed(f"packed/{stem}-images-idx3-ubyte.gz", images)
        labels = np.arange(count, dtype=np.uint8) % 10
        packed(f"packed/{stem}-labels-idx1-ubyte.gz", labels)
    return "packed"


def test_every_pixel_and_label_of_the_packed_files_is_in_the_images_and_lists(source):
    lists = fashion_mnist.write_images("out", source)
    for path, name in zip(lists, ("train", "val"), strict=True):
        part = fashion_mnist.read_part(name, source)
        images = read_list(path, "out", 10)
        assert list(images.labels) == part.labels.tolist()
        for index, pixels in enumerate(part.images):
            found = np.asarray(Image.open(images.paths[index]))
            np.testing.assert_array_equal(found[2:-2, 2:-2], pixels)
            assert found.sum() == pixels.sum()


def test_the_mean_is_that_of_the_images(source):
    fashion_mnist.write_images("out", source)
    part = fashion_mnist.read_part("train", source)
    mean = dataset.read_mean("out/mean.npy")
    assert mean.shape == (3, 32, 32)
    for channel in mean:
        np.testing.assert_allclose(channel[2:-2, 2:-2], part.images.mean(axis=0), rtol=1e-6)


def test_fewer_images_are_the_first_ones(source):
    lists = fashion_mnist.write_images("out", source, counts={"train": 7, "val": 3})
    assert [len(read_list(path)) for path in lists] == [7, 3]


def refused(source: str) -> str:
    with pytest.raises(InputError) as caught:
        fashion_mnist.read_part("train", source)
    return str(caught.value)


def test_a_missing_file_is_named_with_the_package_that_has_it():
    assert "dataset-fashion-mnist" in refused("nowhere")
    assert fashion_mnist.main(["--source", "nowhere", "--out", "out"]) == 2


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_a_truncated_file_is_refused(source, cut):
    path = Path(source, "train-images-idx3-ubyte.gz")
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[:-cut]))
    assert "train-images-idx3-ubyte.gz: damaged" in refused(source)
    path.write_bytes(gzip.compress(whole)[:-cut])
    assert "train-images-idx3-ubyte.gz: damaged" in refused(source)


def test_another_kind_of_file_is_refused(source):
    path = Path(source, "train-labels-idx1-ubyte.gz")
    packed(str(path), np.zeros(40, np.uint8), kind=9)
    assert "not 1 dimensions of bytes" in refused(source)
    path.write_bytes(b"\x1f\x8b" + b"no gzip at all")
    assert "damaged" in refused(source)
    path.write_bytes(gzip.compress(b""))
    assert "damaged" in refused(source)


def test_labels_that_do_not_fit_the_images_are_refused(source):
    packed("packed/train-labels-idx1-ubyte.gz", np.zeros(39, np.uint8))
    assert "40 images, 39 labels" in refused(source)
    packed("packed/train-labels-idx1-ubyte.gz", np.full(40, 10, np.uint8))
    assert "labels up to 10" in refused(source)
