"""List files of a tree: numbers, labels by one class file, chunks and shares."""

import random
from pathlib import Path

import pytest
from prepare_helpers import done, files, refused, write_tree

from train.dataset import open_images
from train.dataset_images import require_same_classes
from train.errors import InputError
from train.imagelist import lst_rows


@pytest.fixture
def tree(in_tmp):
    return write_tree("full", {"b": 3, "a/deep": 2, "c": 5})


def rows(path):
    return [(row.key, row.labels[0], row.path) for row in lst_rows(path)]


def test_a_list_is_the_one_im2rec_writes(tree):
    done("list", "x", tree)
    walk = [(f"{d}/photo {i:02}.JPEG", label) for label, (d, n) in
            enumerate([("a/deep", 2), ("b", 3), ("c", 5)]) for i in range(n)]  # fmt: skip
    expected = [f"{key}\t{label:f}\t{path}\n" for key, (path, label) in enumerate(walk)]
    random.seed(100)  # what im2rec does
    random.shuffle(expected)
    assert Path("x.lst").read_text() == "".join(expected)
    assert Path("x_classes.txt").read_text() == "a/deep\nb\nc\n"


def test_chunks_are_all_of_it_and_share_no_number(tree):
    done("list", "meta/x", tree, "--chunks", 4)
    chunks = [rows(f"meta/x_{i}.lst") for i in range(4)]
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    assert sorted(key for chunk in chunks for key, _, _ in chunk) == list(range(10))


def test_shares_of_every_chunk_are_all_of_it(tree):
    done("list", "x", tree, "--chunks", 2, "--train-ratio", 0.6, "--test-ratio", 0.2)
    sizes = {name: len(rows(f"x{name}.lst")) for name in (
        "_0_train", "_0_test", "_0_val", "_1_train", "_1_test", "_1_val")}  # fmt: skip
    assert sizes == {
        "_0_train": 3, "_0_test": 1, "_0_val": 1, "_1_train": 3, "_1_test": 1, "_1_val": 1,
    }  # fmt: skip
    assert "exceed 1" in refused("list", "y", tree, "--train-ratio", 0.6, "--test-ratio", 0.5)
    assert "_test would be empty" in refused(
        "list", "y", tree, "--train-ratio", 0.6, "--test-ratio", 0.01
    )


def test_training_and_validation_agree_through_one_class_file(tree):
    write_tree("val", {"a/deep": 1, "c": 1, "b": 1})
    done("list", "train", tree, "--classes", "classes.txt")
    done("list", "val", "val", "--classes", "classes.txt", "--format", "txt")
    assert Path("val.txt").read_text().count("c/photo 00.JPEG 2\n") == 1
    training, validation = open_images("train.lst", tree), open_images("val.txt", "val")
    require_same_classes(training, validation)


def test_a_class_missing_in_validation_is_named_with_its_line(tree):
    write_tree("val", {"a/deep": 1, "c": 1})
    done("list", "train", tree, "--classes", "classes.txt")
    before = files(".")
    line = refused("list", "val", "val", "--classes", "classes.txt")
    assert "classes.txt:2: class 'b' has no image in val" in line
    assert files(".") == before


def test_a_class_that_the_class_file_does_not_name_is_refused_or_left_out(tree):
    Path("classes.txt").write_text("c\nb\n")
    line = refused("list", "x", tree, "--classes", "classes.txt")
    assert "'a/deep/photo 00.JPEG' is of a class that classes.txt does not name" in line
    done("list", "x", tree, "--classes", "classes.txt", "--only", "--no-shuffle")
    assert [(label, path[0]) for _, label, path in rows("x.lst")] == [(1, "b")] * 3 + [(0, "c")] * 5


def test_a_sample_of_classes_is_drawn_by_seed_and_shared_by_both_lists(in_tmp):
    names = {f"n{i:02}": 2 for i in range(30)}
    write_tree("full", names)
    write_tree("val", dict.fromkeys(names, 1))
    done("list", "mini", "full", "--sample", 8, "--classes", "c.txt", "--seed", 3)
    done("list", "mini_val", "val", "--classes", "c.txt", "--only")
    chosen = Path("c.txt").read_text().split()
    assert len(chosen) == 8
    for path, count in (("mini.lst", 16), ("mini_val.lst", 8)):
        found = rows(path)
        assert len(found) == count
        assert {chosen[int(label)] for _, label, _ in found} == set(chosen)
        assert all(chosen[int(label)] == path.split("/")[0] for _, label, path in found)
    done("list", "other", "full", "--sample", 8, "--seed", 4)
    assert Path("other_classes.txt").read_text().split() != chosen
    assert "it has 30 classes" in refused("list", "y", "full", "--sample", 31)


def test_what_stands_there_is_not_overwritten_unless_asked(tree):
    done("list", "x", tree)
    done("list", "x", tree)
    before = files(".")
    assert "x.lst: exists with other contents" in refused("list", "x", tree, "--no-shuffle")
    assert files(".") == before
    done("list", "x", tree, "--no-shuffle", "--overwrite")
    assert [key for key, _, _ in rows("x.lst")] == list(range(10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n\nb\n", "c.txt:2: an empty line"),
        ("a\nb\na\n", "c.txt:3: the class 'a' is that of line 1"),
        ("", "c.txt: the class file names no class"),
        (b"a\n\xff\n", "c.txt: byte 2: not UTF-8"),
    ],
)
def test_a_class_file_that_makes_no_sense_is_named(tree, text, message):
    Path("c.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in refused("list", "x", tree, "--classes", "c.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t0", "x.lst:2: expected 'index TAB label TAB path'"),
        ("1 0 a.jpg", "x.lst:2: expected"),
        ("1\tx\ta.jpg", "x.lst:2: could not convert string to float: 'x'"),
        ("0\t1\tb.jpg", "x.lst:2: the number 0 is that of line 1 too"),
        ("1\t0.5\ta.jpg", "x.lst:2: the label 0.5 is not a whole number"),
        ("1\tnan\ta.jpg", "x.lst:2: the label nan is not a whole number"),
        ("1\t3\ta.jpg", "x.lst:2: label 3 is out of range, labels are 0 to 2"),
    ],
)
def test_a_line_of_such_a_list_that_makes_no_sense_is_named(in_tmp, line, message):
    Path("x.lst").write_text(f"0\t0.000000\ta.jpg\n{line}\n")
    with pytest.raises(InputError, match=message):
        open_images("x.lst", classes=3)
