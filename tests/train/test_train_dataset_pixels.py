"""Cutting from what is decoded: the same pixels with less work, in memory that is used again."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from train.dataset_images import open_encoded
from train.dataset_memory import Reused
from train.dataset_pixels import planes, to_rgb

HEIGHT, WIDTH = 75, 61
#: A frame's head, as it would stand in the thumbnail that a camera puts before the image.
THUMBNAIL = b"\xff\xc0\0\x11\x08" + bytes([0, HEIGHT, 0, WIDTH])


def picture():
    """Smooth colours with some noise, so that rows are interpolated from different ones."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return Image.fromarray(smooth ^ random.integers(0, 32, smooth.shape, dtype=np.uint8))


def jpeg(image, **options):
    with io.BytesIO() as file:
        image.save(file, "JPEG", **options)
        return file.getvalue()


WHOLE = jpeg(picture())
SCANS = jpeg(picture(), progressive=True)
JPEGS = {
    **{f"subsampling {n}": jpeg(picture(), subsampling=n) for n in (0, 1, 2)},
    "grey": jpeg(picture().convert("L")),
    "cmyk": jpeg(picture().convert("CMYK")),
    "restarts": jpeg(picture(), restart_marker_blocks=3),
    "thumbnail": jpeg(picture(), comment=THUMBNAIL),
    "progressive": SCANS,
    "fewer scans": SCANS[: SCANS.index(b"\xff\xda", SCANS.index(b"\xff\xda") + 2)] + b"\xff\xd9",
    "fill bytes": WHOLE[:2] + b"\xff\xff" + WHOLE[2:],
    "bytes behind it": WHOLE + b"\0",
}


@pytest.mark.parametrize("kind", JPEGS)
def test_a_cut_of_a_jpeg_has_the_pixels_of_the_whole_image(kind):
    whole = np.asarray(to_rgb(open_encoded(JPEGS[kind])))
    for bottom in range(20, HEIGHT + 1):
        cut = planes(to_rgb(open_encoded(JPEGS[kind]), (7, bottom - 20, 27, bottom)))
        np.testing.assert_array_equal(cut, whole[bottom - 20 : bottom, 7:27].transpose(2, 0, 1))


@pytest.mark.parametrize("kind", [*JPEGS][:7])
def test_a_jpeg_is_decoded_no_further_down_than_its_cut(kind):
    image = open_encoded(JPEGS[kind])
    to_rgb(image, (0, 0, 20, 20))
    assert np.asarray(image)[:20].any()
    assert not np.asarray(image)[24:].any()


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_was_cut_short_is_refused_wherever_the_cut_is(options):
    data = jpeg(picture(), **options)
    for length in range(len(data) // 2, len(data) * 9 // 10, 7):
        with pytest.raises(OSError, match="truncated"):
            to_rgb(open_encoded(data[:length]), (0, 0, 8, 8))


def test_what_was_read_can_be_decoded_again():
    data = memoryview(bytearray(WHOLE))
    for kept in (data, bytes(WHOLE)):
        to_rgb(open_encoded(kept), (0, 0, 8, 8))
        assert kept == WHOLE


def test_memory_is_used_again_when_no_view_is_left_and_not_before():
    memory = Reused((3, 4))
    array = memory.empty()
    address, view = array.ctypes.data, array[1:, ::-1]
    view[...] = 7
    del array
    other = memory.empty()
    other[...] = 8
    assert other.ctypes.data != address
    assert (view == 7).all()
    del view
    assert memory.empty().ctypes.data == address


def test_a_copy_by_pickling_brings_no_memory_with_it():
    memory = Reused((3, 1000))
    memory.empty()
    pickled = pickle.dumps(memory)
    assert len(pickled) < 1000
    array = pickle.loads(pickled).empty()
    assert (array.shape, array.dtype) == ((3, 1000), np.float32)
