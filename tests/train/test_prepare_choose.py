"""Filtering classes and drawing a validation set, from folders and from archives."""

import io
import random
import tarfile
from pathlib import Path

import pytest
from prepare_helpers import done, files, jpeg, refused, write_tree

from train.errors import InputError
from train.prepare.classes import draw, read_classes
from train.prepare.tree import open_tree


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def class_tar(root, name):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(Path(root, name).iterdir()):
            add(tar, path.name, path.read_bytes())
    return out.getvalue()


@pytest.fixture
def archive(in_tmp):
    """The tree "full" as a tar of class tars."""
    write_tree("full", {"n02": 3, "n01": 4, "n03": 1})
    with tarfile.open("full.tar", "w") as tar:
        for name in ("n02", "n01", "n03"):
            add(tar, f"{name}.tar", class_tar("full", name))
    return "full.tar"


def test_classes_with_too_few_images_are_moved_beside_the_root(in_tmp):
    write_tree("full", {"rare": 3, "common": 4, "none": 0})
    before = files("full")
    result = done("filter", "full", "--more-than", 3)
    assert "keep common, 4 images" in result.stdout
    assert "1 classes kept, 2 removed" in result.stdout
    assert sorted(p.name for p in Path("full").iterdir()) == ["common"]
    assert sorted(p.name for p in Path("full_filtered").iterdir()) == ["none", "rare"]
    assert files("full") | files("full_filtered") == before


def test_filtering_again_moves_nothing_more(in_tmp):
    write_tree("full", {"rare": 1, "common": 4})
    done("filter", "full", "--more-than", 3)
    before = files(".")
    assert "1 classes kept, 0 removed" in done("filter", "full", "--more-than", 3).stdout
    assert files(".") == before


def test_nothing_is_moved_where_a_class_was_moved_before(in_tmp):
    write_tree("full", {"a": 1, "b": 1, "common": 4})
    write_tree("full_filtered", {"b": 2})
    before = files(".")
    assert "full_filtered/b: exists already" in refused("filter", "full", "--more-than", 3)
    assert files(".") == before


def test_of_an_archive_the_kept_classes_are_listed(archive):
    done("filter", archive, "--more-than", 2, "--list", "classes.txt")
    assert read_classes("classes.txt") == ["n01", "n02"]
    assert "nothing can be moved" in refused("filter", archive, "--more-than", 2)
    line = refused("filter", archive, "--more-than", 9)
    assert "no class has more than 9 images, at most 4" in line


def test_an_archive_of_class_tars_is_the_same_tree_as_its_folders(archive):
    folders, tar = open_tree("full"), open_tree(archive)
    assert list(folders.walk()) == list(tar.walk())
    assert len(list(tar.walk())) == 8
    for path in tar.walk():
        assert tar.read(path) == folders.read(path)


def test_a_folder_of_class_tars_is_too(archive, in_tmp):
    Path("tars").mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            Path("tars", member.name).write_bytes(tar.extractfile(member).read())
    folders, tars = open_tree("full"), open_tree("tars")
    assert {p: tars.read(p) for p in tars.walk()} == {p: folders.read(p) for p in folders.walk()}


def test_a_truncated_archive_is_named_with_the_byte(archive):
    whole = Path(archive).read_bytes()
    for share in (0.3, 0.5, 0.7):
        Path("cut.tar").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=r"cut.tar: byte \d+: "):
            open_tree("cut.tar")


def test_a_file_that_is_no_archive_is_named(in_tmp):
    Path("junk.tar").write_bytes(b"junk" * 1000)
    assert "junk.tar: byte 0: no tar archive" in refused("filter", "junk.tar")
    assert "absent: cannot be read: No such file" in refused("filter", "absent")
    Path("empty").mkdir()
    assert "empty: no image in it" in refused("filter", "empty")


def test_an_image_outside_of_the_classes_is_named(in_tmp):
    write_tree("full", {"a": 1})
    Path("full/lost.jpg").write_bytes(jpeg(0))
    assert "'lost.jpg' is in no class's directory" in refused("filter", "full")


def test_so_many_images_of_each_class_are_moved_and_no_others(in_tmp):
    write_tree("full", {"a": 6, "b": 9})
    before = files("full")
    done("split", "full", "--per-class", 4)
    assert files("full") | files("full_val") == before
    names = [path.split("/")[0] for path in files("full_val")]
    assert sorted(names) == ["a"] * 4 + ["b"] * 4
    assert not files("full").keys() & files("full_val").keys()


def test_the_seed_alone_decides_and_splitting_again_moves_nothing(in_tmp):
    for root in ("one", "two", "three"):
        write_tree(root, {"a": 12, "b": 12})
    for root, seed in (("one", 1), ("two", 1), ("three", 2)):
        done("split", root, "--per-class", 5, "--seed", seed)
    assert files("one_val").keys() == files("two_val").keys() != files("three_val").keys()
    assert "0 images moved" in done("split", "one", "--per-class", 5, "--seed", 1).stdout
    assert files("one_val").keys() == files("two_val").keys()


def test_an_interrupted_split_is_completed_by_the_same_command(in_tmp):
    for root in ("whole", "torn"):
        write_tree(root, {"a": 12, "b": 12})
        done("split", root, "--per-class", 5)
    for name in list(files("torn_val"))[::2]:
        Path("torn_val", name).rename(Path("torn", name))
    done("split", "torn", "--per-class", 5)
    assert files("torn_val") == files("whole_val")
    assert files("torn") == files("whole")


def test_another_seed_does_not_mix_its_draw_with_what_was_moved(in_tmp):
    write_tree("full", {"a": 12})
    done("split", "full", "--per-class", 5, "--seed", 1)
    before = files(".")
    line = refused("split", "full", "--per-class", 5, "--seed", 2)
    assert "is there already, and is not among the 5 that seed 2 draws" in line
    assert files(".") == before


def test_a_class_that_would_have_no_training_images_is_named(in_tmp):
    write_tree("full", {"a": 6, "b": 4})
    before = files(".")
    line = refused("split", "full", "--per-class", 4)
    assert "class 'b' has 4 images: 4 for validation leave none" in line
    assert files(".") == before


def test_a_listed_split_is_the_moved_one(archive):
    done("filter", archive, "--more-than", 2, "--list", "c.txt")
    done("split", archive, "--per-class", 2, "--list", "lists/x", "--classes", "c.txt", "--only")
    done("filter", "full", "--more-than", 2)
    done("split", "full", "--per-class", 2)
    listed = [line.split("\t") for line in Path("lists/x_val.lst").read_text().splitlines()]
    assert {path for _, _, path in listed} == set(files("full_val"))
    training = [line.split("\t") for line in Path("lists/x_train.lst").read_text().splitlines()]
    assert {path for _, _, path in training} == set(files("full"))
    assert {(label, path[:3]) for _, label, path in listed + training} == {
        ("0.000000", "n01"), ("1.000000", "n02"),
    }  # fmt: skip


def test_a_draw_depends_on_seed_and_names_alone():
    names = [f"n{i}" for i in range(100)]
    drawn = draw(names, 20, 7)
    mixed = random.Random(0).sample(names, 100)
    assert sorted(draw(mixed, 20, 7)) == sorted(drawn)
    assert draw(drawn, 20, 7) == drawn
    gone = [name for name in names if name != drawn[3]]
    assert set(drawn) - {drawn[3]} < set(draw(gone, 20, 7))
    assert draw(names, 20, 8) != drawn
