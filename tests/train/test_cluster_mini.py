"""Mini-ImageNet's lists: which classes they take, and what these are called there."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from train.cluster import __main__ as command
from train.cluster.mini import write_mini_lists
from train.errors import InputError

CLASSES = 40


@pytest.fixture
def lists() -> tuple[str, str]:
    random = np.random.default_rng(5)
    for name, each in (("train", 6), ("val", 2)):
        rows = [f"of class {c}/{name} {i}.jpg {c}\n" for c in range(CLASSES) for i in range(each)]
        Path(f"{name}.txt").write_text("".join(random.permutation(rows)))
    return "train.txt", "val.txt"


def rows(name: str) -> list[tuple[str, int]]:
    lines = (line.rsplit(maxsplit=1) for line in Path("lists", name).read_text().splitlines())
    return [(path, int(label)) for path, label in lines]


def old_label(path: str) -> int:
    return int(path.split("/")[0].removeprefix("of class "))


@pytest.mark.parametrize("size", [8, 16, 32])
def test_a_list_has_all_images_of_its_classes_and_labels_from_0_up(lists, size):
    assert command.run(["mini", *lists]) == 0
    for name, each in (("train", 6), ("val", 2)):
        labels = Counter(label for _, label in rows(f"{name}_{size}.txt"))
        assert labels == dict.fromkeys(range(size), each)


def test_a_class_has_one_new_label_in_all_lists(lists):
    write_mini_lists(*lists, "lists")
    names = [f"{name}_{size}.txt" for name in ("train", "val") for size in (8, 16, 32)]
    pairs = {(old_label(path), label) for name in names for path, label in rows(name)}
    assert len(pairs) == 32
    told = [
        tuple(map(int, x.split()))
        for x in Path("lists/classes_32.txt").read_text().split("\n")[:-1]
    ]
    assert {(old, new) for new, old in told} == pairs


def test_the_smaller_choices_are_parts_of_the_larger(lists):
    write_mini_lists(*lists, "lists")
    chosen = [{old_label(path) for path, _ in rows(f"train_{size}.txt")} for size in (8, 16, 32)]
    assert chosen[0] < chosen[1] < chosen[2]


def test_the_images_keep_their_order(lists):
    write_mini_lists(*lists, "lists", sizes=[8])
    full = [x.rsplit(maxsplit=1)[0] for x in Path("train.txt").read_text().splitlines()]
    places = [full.index(path) for path, _ in rows("train_8.txt")]
    assert places == sorted(places)


def test_a_seed_chooses_the_same_classes_again_and_another_seed_others(lists):
    def chosen(seed: int) -> bytes:
        write_mini_lists(*lists, "lists", seed=seed)
        return Path("lists/classes_16.txt").read_bytes()

    first = chosen(1)
    assert chosen(2) != first
    assert chosen(1) == first


def test_a_class_that_only_one_list_has_is_refused_and_nothing_written(lists):
    kept = [x for x in Path("val.txt").read_text().splitlines(True) if not x.endswith(" 7\n")]
    Path("val.txt").write_text("".join(kept))
    with pytest.raises(
        InputError, match=r"val\.txt: has no image of class 7, which train\.txt:\d+"
    ):
        write_mini_lists(*lists, "lists")
    assert not Path("lists").exists()


def test_more_classes_than_there_are_are_refused(lists, capsys):
    assert command.run(["mini", *lists, "--classes", "8", "--classes", "41"]) == 2
    assert "names 40 classes, 41 cannot be chosen" in capsys.readouterr().err
    assert not Path("lists").exists()
