"""List files: what is read, and what is said about a line that cannot be."""

import pytest

from train.errors import InputError
from train.imagelist import read_list


@pytest.fixture
def listed(in_tmp):
    def write(text, **options):
        (in_tmp / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_list("list.txt", **options)

    return write


def test_the_label_is_what_follows_the_last_white_space(listed):
    images = listed("a.jpg 1\nmy  dir/a kitten.jpg\t 2\n")
    assert images.paths == ["./a.jpg", "./my  dir/a kitten.jpg"]
    assert list(images.labels) == [1, 2]


def test_relative_paths_start_from_the_root_and_absolute_ones_stay(listed):
    assert listed("a.jpg 1\n/b.jpg 2\n", root="images").paths == ["images/a.jpg", "/b.jpg"]


def test_lines_are_counted_with_empty_ones_and_windows_ends(listed):
    images = listed("\n\na.jpg 1\r\n   \nb.jpg 2")
    assert [images.where(i) for i in range(2)] == ["list.txt:3", "list.txt:5"]
    assert list(images.labels) == [1, 2]


def test_a_byte_order_mark_is_no_part_of_the_first_path(listed):
    assert listed("\ufeffbär.jpg 1\n").paths == ["./bär.jpg"]


def test_selected_images_keep_their_lines(listed):
    images = listed("a 0\nb 1\nc 2\n").select([2, 0])
    assert images.paths == ["./c", "./a"]
    assert list(images.labels) == [2, 0]
    assert images.where(0) == "list.txt:3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 0\nb\n", "list.txt:2: expected 'path label', found 'b'"),
        ("a 0\nb x\n", "list.txt:2: the label 'x' is not a whole number"),
        ("a 0\nb 1.0\n", "list.txt:2: the label '1.0' is not a whole number"),
        ("a 0\nb 3\n", "list.txt:2: label 3 is out of range, labels are 0 to 2"),
        ("a -1\n", "list.txt:1: label -1 is out of range, labels are 0 to 2"),
        ("\n\n", "list.txt: the list file names no image"),
        ("", "list.txt: the list file names no image"),
        (b"a 0\n\xff\xfe 1\n", "list.txt: not UTF-8 text"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(listed, text, message):
    with pytest.raises(InputError, match=message):
        listed(text, classes=3)


def test_without_a_number_of_classes_every_label_from_0_is_good(listed):
    assert list(listed("a 70000\n").labels) == [70000]
    with pytest.raises(InputError, match="labels are 0 or more"):
        listed("a -1\n")
    with pytest.raises(InputError, match="larger than any class number"):
        listed("a 3000000000\n")


def test_a_list_that_cannot_be_read_is_named(in_tmp):
    with pytest.raises(InputError, match=r"absent.txt: cannot read the list file: No such file"):
        read_list("absent.txt")
    with pytest.raises(InputError, match="cannot read the list file: Is a directory"):
        read_list(in_tmp)


def test_a_missing_image_is_named_before_anything_is_read(listed, in_tmp):
    (in_tmp / "a.jpg").touch()
    with pytest.raises(InputError, match=r"list.txt:2: there is no image './my cat.jpg'"):
        listed("a.jpg 0\nmy cat.jpg 1\n").require_files()
