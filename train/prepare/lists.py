"""List files of a tree: shuffled, in chunks, in shares, labelled by a class file."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from train.errors import InputError
from train.prepare.tree import Tree


class Entry(NamedTuple):
    """A line of a list.

    Attributes:
        key: The image's place in the sorted tree, so that no two lists of it share one.
        label: Its class.
        path: From the tree's root.
    """

    key: int
    label: int
    path: str


def entries(
    tree: Tree, names: Sequence[str], class_file: str, *, only: bool = False
) -> list[Entry]:
    """Labels the images of a tree.

    Args:
        tree: The images.
        names: The classes, in the order of their labels.
        class_file: Where they stand, for messages.
        only: Images of other classes are left out; otherwise they are an error.

    Raises:
        InputError: A class has no image, or an image is of another class.
    """
    label_of = {name: label for label, name in enumerate(names)}
    found = tree.classes()
    if missing := [name for name in names if name not in found]:
        line = label_of[missing[0]] + 1
        raise InputError(f"{class_file}:{line}: class {missing[0]!r} has no image in {tree.root}")
    unknown = [name for name in found if name not in label_of]
    if unknown and not only:
        raise InputError(
            f"{tree.root}: {found[unknown[0]][0]!r} is of a class that {class_file} does not name; "
            f"--only leaves such images out"
        )
    rows = ((name, path) for name, paths in found.items() for path in paths)
    return [
        Entry(key, label_of[name], path)
        for key, (name, path) in enumerate(rows)
        if name in label_of
    ]


def shuffled(rows: Sequence[Entry], seed: int) -> list[Entry]:
    """Returns the rows in the order that im2rec gives them with the seed 100."""
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    return rows


def cut(
    rows: Sequence[Entry], chunks: int, train_ratio: float, test_ratio: float
) -> Iterator[tuple[str, Sequence[Entry]]]:
    """Cuts rows into chunks, and each chunk into shares, as im2rec does.

    Args:
        rows: All rows.
        chunks: How many chunks.
        train_ratio: The share of a chunk for training; 1 for all of it.
        test_ratio: The share for testing; the rest is for validation.

    Yields:
        What the name of a list ends with, and its rows.

    Raises:
        InputError: The shares are together more than 1, or there are too few rows for one.
    """
    if train_ratio + test_ratio > 1:
        raise InputError(f"--train-ratio {train_ratio} and --test-ratio {test_ratio} exceed 1")
    size = -(-len(rows) // chunks)
    for number in range(chunks):
        chunk = rows[number * size : (number + 1) * size]
        suffix = f"_{number}" if chunks > 1 else ""
        test, train = int(size * test_ratio), int(size * train_ratio)
        shares = {"": chunk}
        if train_ratio < 1:
            shares = {"_train": chunk[test : test + train]}
            if test_ratio:
                shares["_test"] = chunk[:test]
            if train_ratio + test_ratio < 1:
                shares["_val"] = chunk[test + train :]
        for share, part in shares.items():
            if not part:
                raise InputError(f"{len(rows)} images are too few: {suffix + share} would be empty")
            yield suffix + share, part


def as_lst(rows: Iterable[Entry]) -> str:
    """Returns rows as MXNet's list file: index, label, path."""
    return "".join(f"{row.key}\t{row.label:f}\t{row.path}\n" for row in rows)


def as_txt(rows: Iterable[Entry]) -> str:
    """Returns rows as a list file of ``path label``."""
    return "".join(f"{row.path} {row.label}\n" for row in rows)


FORMATS: dict[str, Callable[[Iterable[Entry]], str]] = {"lst": as_lst, "txt": as_txt}
