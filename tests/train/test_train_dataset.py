"""Decoding, cropping and what is said about an image that cannot be used."""

import numpy as np
import pytest
from PIL import Image

from train.dataset import CentreCrops, RandomCrops, broken, read_mean, read_rgb
from train.errors import InputError
from train.imagelist import read_list


def save(pixels, name):
    Image.fromarray(pixels).save(name)


@pytest.fixture
def images(in_tmp):
    def write(*names):
        (in_tmp / "list.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))
        return read_list("list.txt", root=in_tmp)

    return write


@pytest.fixture
def numbered(images, in_tmp):
    """One image of 5 x 6 whose every pixel is different, and a mean that is nowhere the same."""
    pixels = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    save(pixels, in_tmp / "numbered.png")
    mean = np.random.default_rng(0).uniform(0, 255, (3, 5, 6)).astype(np.float32)
    return images("numbered.png"), mean, pixels.transpose(2, 0, 1)


def test_a_random_crop_reaches_every_place_and_mirroring(numbered):
    images, mean, _ = numbered
    crops = RandomCrops(images, mean, insize=3, seed=0)
    seen = {crops.window(0, epoch, 5, 6) for epoch in range(400)}
    assert seen == {(t, x, m) for t in range(3) for x in range(4) for m in (False, True)}


def test_every_place_is_about_as_likely(numbered):
    images, mean, _ = numbered
    crops = RandomCrops(images, mean, insize=3, seed=1)
    windows = [crops.window(0, epoch, 5, 6) for epoch in range(4800)]
    counts = [windows.count(w) for w in set(windows)]
    assert len(counts) == 24
    assert min(counts) > 140  # 200 expected, standard deviation 14
    assert max(counts) < 260


def test_a_random_crop_is_cut_less_the_mean_at_the_same_place(numbered):
    images, mean, pixels = numbered
    crops = RandomCrops(images, mean, insize=3, seed=0)
    whole = (pixels.astype(np.float64) - mean) / 255
    for epoch in range(50):
        top, left, mirrored = crops.window(0, epoch, 5, 6)
        expected = whole[:, top : top + 3, left : left + 3]
        image, label = crops.example(0, epoch)
        np.testing.assert_allclose(image, expected[:, :, ::-1] if mirrored else expected, atol=1e-6)
        assert (image.dtype, image.shape) == (np.float32, (3, 3, 3))
        assert (label, label.dtype) == (0, np.int32)


def test_the_centre_crop_is_the_middle_and_the_same_in_every_epoch(numbered):
    images, mean, pixels = numbered
    crops = CentreCrops(images, mean, insize=3)
    expected = (pixels.astype(np.float64) - mean)[:, 1:4, 1:4] / 255
    np.testing.assert_allclose(crops.example(0, 0)[0], expected, atol=1e-6)
    np.testing.assert_array_equal(crops.example(0, 0)[0], crops.example(0, 1)[0])


@pytest.mark.parametrize("make", [CentreCrops, lambda *args: RandomCrops(*args, seed=0)])
def test_an_insize_as_large_as_the_image_takes_all_of_it(images, in_tmp, make):
    save(np.zeros((5, 5, 3), np.uint8), in_tmp / "a.png")
    crops = make(images("a.png"), np.zeros((3, 5, 5), np.float32), 5)
    assert crops.window(0, 0, 5, 5)[:2] == (0, 0)
    assert crops.example(0, 0)[0].shape == (3, 5, 5)


def test_a_random_crop_depends_on_seed_epoch_and_index_alone(numbered):
    images, mean, _ = numbered
    one, same, other = (RandomCrops(images, mean, 2, seed) for seed in (7, 7, 8))
    where = [(index, epoch) for index in range(20) for epoch in range(20)]
    windows = [one.window(*w, 60, 60) for w in where]
    assert [same.window(*w, 60, 60) for w in reversed(where)] == windows[::-1]
    assert [other.window(*w, 60, 60) for w in where] != windows
    assert len(set(windows)) > 350  # 400 draws from 6962 windows


GREY = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
COLOUR = np.stack([GREY, GREY[::-1], GREY.T], axis=2)
OPAQUE = np.concatenate([COLOUR, np.full((4, 4, 1), 77, np.uint8)], axis=2)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(COLOUR), COLOUR),
        (Image.fromarray(OPAQUE), COLOUR),
        (Image.fromarray(GREY), np.stack([GREY] * 3, axis=2)),
        (Image.fromarray(np.stack([GREY, GREY.T], axis=2)), np.stack([GREY] * 3, axis=2)),
        (Image.fromarray(GREY > 100), np.stack([(GREY > 100) * np.uint8(255)] * 3, axis=2)),
        (Image.fromarray(COLOUR).quantize(256), COLOUR),
        (Image.fromarray(GREY.astype(np.uint16) * 257), np.stack([GREY] * 3, axis=2)),
    ],
    ids=["rgb", "alpha", "grey", "grey and alpha", "bilevel", "palette", "16-bit grey"],
)
def test_every_kind_of_image_becomes_rgb(in_tmp, image, expected):
    image.save("a kind.png")
    pixels = read_rgb("a kind.png")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected.transpose(2, 0, 1))


@pytest.fixture
def trouble(images, in_tmp):
    """A list of which only the first, the fourth and the last image can be used."""
    good = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    for name in ("good.png", "a path.png", "last.jpg"):
        good.save(in_tmp / name)
    random = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(random).save(in_tmp / "whole.jpg")
    (in_tmp / "broken.jpg").write_bytes((in_tmp / "whole.jpg").read_bytes()[:-60])
    (in_tmp / "text.png").write_text("no image")
    good.resize((8, 3)).save(in_tmp / "small.png")
    good.resize((9, 8)).save(in_tmp / "wide.png")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(in_tmp / "float.tiff")
    return images(
        "good.png", "absent.png", "broken.jpg", "a path.png", "text.png", "small.png", "wide.png",
        "float.tiff", "last.jpg",
    )  # fmt: skip


COMPLAINTS = {
    1: r"list.txt:2: cannot read the image '.*/absent.png': No such file",
    2: r"list.txt:3: cannot read the image '.*/broken.jpg': .*[Tt]runcated",
    4: r"list.txt:5: cannot read the image '.*/text.png': cannot identify image file",
    5: r"list.txt:6: '.*/small.png' is 3x8, too small for an insize of 4",
    6: r"list.txt:7: '.*/wide.png' is 8x9 and the mean is 8x8: all images must",
    7: r"list.txt:8: cannot read the image '.*/float.tiff': its pixels are 32-bit",
}


@pytest.mark.parametrize("index", COMPLAINTS)
def test_an_unusable_image_is_named_with_file_and_line(trouble, index):
    crops = CentreCrops(trouble, np.zeros((3, 8, 8), np.float32), 4)
    with pytest.raises(InputError, match=COMPLAINTS[index]):
        crops.example(index, 0)


@pytest.mark.parametrize("jobs", [0, 3])
def test_a_scan_finds_exactly_the_unusable_images(trouble, jobs):
    crops = CentreCrops(trouble, np.zeros((3, 8, 8), np.float32), 4)
    assert list(broken(crops, jobs)) == list(COMPLAINTS)


def test_an_insize_beyond_the_mean_is_refused(images):
    with pytest.raises(InputError, match="an insize of 9 cannot be cut from images of 8x10"):
        CentreCrops(images("a"), np.zeros((3, 8, 10), np.float32), 9)


def test_a_mean_of_any_number_type_is_read_as_float32(in_tmp):
    np.save("mean.npy", np.full((3, 4, 5), 7, np.float64))
    mean = read_mean("mean.npy")
    assert (mean.dtype, mean.shape, mean[2, 3, 4]) == (np.float32, (3, 4, 5), 7)


def test_a_mean_that_is_none_is_named(in_tmp):
    with pytest.raises(InputError, match=r"mean.npy: cannot read the mean image: No such file"):
        read_mean("mean.npy")
    (in_tmp / "text.npy").write_text("no array")
    with pytest.raises(InputError, match=r"text.npy: not a npy file"):
        read_mean("text.npy")
    (in_tmp / "empty.npy").touch()
    with pytest.raises(InputError, match=r"empty.npy"):
        read_mean("empty.npy")
    np.save("grey.npy", np.zeros((4, 5)))
    with pytest.raises(InputError, match=r"grey.npy: expected .* \(3, H, W\), found \(4, 5\)"):
        read_mean("grey.npy")
    np.savez("many.npz", a=np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match=r"many.npz: expected .* found None"):
        read_mean("many.npz")
