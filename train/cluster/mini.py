"""Mini-ImageNet: the lists of a few of the classes."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from swapmem.files import replacing
from train.errors import InputError
from train.imagelist import ImageList, read_list

#: Numbers of classes that a config may ask for.
SIZES = (8, 16, 32)


def write_mini_lists(
    training: str | os.PathLike[str],
    validation: str | os.PathLike[str],
    out: str | os.PathLike[str],
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> list[Path]:
    """Writes the lists of a random choice of classes, for each size.

    The smaller choices are parts of the larger ones, and a class that was chosen gets the same new
    label in all lists: its position in the choice, so that labels go from 0 to size - 1. The order
    of the images stays. ``classes_N.txt`` says which class became which.

    Args:
        training: List of all training images, ``path label`` a line.
        validation: List of all validation images, with the same labels.
        out: Directory for ``train_N.txt``, ``val_N.txt`` and ``classes_N.txt``; made if need be.
        sizes: Numbers of classes.
        seed: Of the choice; the same seed chooses the same classes.

    Returns:
        The files that were written.

    Raises:
        InputError: A list cannot be read, has fewer classes than the largest size, or a class of
            the training images is missing in the validation images or the other way round.
    """
    lists = {"train": read_list(training, root=""), "val": read_list(validation, root="")}
    labels = _common_labels(lists["train"], lists["val"])
    if max(sizes) > len(labels):
        raise InputError(
            f"{training}: names {len(labels)} classes, {max(sizes)} cannot be chosen from them"
        )
    chosen = np.random.default_rng(seed).permutation(labels)[: max(sizes)].tolist()
    directory = Path(out)
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for size in sizes:
        new_labels = {label: number for number, label in enumerate(chosen[:size])}
        files = {f"{name}_{size}.txt": _rows(images, new_labels) for name, images in lists.items()}
        files[f"classes_{size}.txt"] = [f"{new} {old}" for old, new in new_labels.items()]
        for name, rows in files.items():
            with replacing(directory / name) as file:
                file.write("".join(f"{row}\n" for row in rows).encode())
            written.append(directory / name)
    return written


def _common_labels(training: ImageList, validation: ImageList) -> list[int]:
    trained, validated = set(training.labels), set(validation.labels)
    for label in sorted(trained ^ validated):
        has, lacks = (training, validation) if label in trained else (validation, training)
        where = has.where(list(has.labels).index(label))
        raise InputError(f"{lacks.source}: has no image of class {label}, which {where} names")
    return sorted(trained)


def _rows(images: ImageList, new_labels: dict[int, int]) -> list[str]:
    return [
        f"{path} {new_labels[label]}"
        for path, label in zip(images.paths, images.labels, strict=True)
        if label in new_labels
    ]
