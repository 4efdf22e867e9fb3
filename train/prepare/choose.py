"""Which classes stay, and which images are for validation."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.errors import InputError
from train.prepare.classes import draw
from train.prepare.tree import Folder, Tree


@dataclass(frozen=True)
class Filtered:
    """How many images each class has.

    Attributes:
        kept: Of the classes with enough of them.
        removed: Of the others.
    """

    kept: dict[str, int]
    removed: dict[str, int]


def filter_classes(tree: Tree, more_than: int) -> Filtered:
    """Finds the classes that have more than `more_than` images.

    Raises:
        InputError: No class has so many.
    """
    counts = {name: len(paths) for name, paths in tree.classes().items()}
    if isinstance(tree, Folder):
        counts |= dict.fromkeys(tree.empty_classes(), 0)
    kept = {name: count for name, count in counts.items() if count > more_than}
    if not kept:
        most = max(counts.values())
        raise InputError(f"{tree.root}: no class has more than {more_than} images, at most {most}")
    return Filtered(kept, {name: n for name, n in counts.items() if name not in kept})


def move_classes(tree: Folder, names: list[str], target: Path) -> None:
    """Moves class folders to another folder; one that was moved before is not there any more.

    Raises:
        InputError: The other folder has one of them; nothing was moved.
        OSError: A folder cannot be moved.
    """
    for name in names:
        if (target / name).exists():
            raise InputError(f"{target / name}: exists already, nothing was moved")
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.rename(tree.root / name, target / name)


def choose_validation(
    root: Path, classes: Mapping[str, Sequence[str]], per_class: int, seed: int
) -> dict[str, list[str]]:
    """Draws images of each class for validation.

    Args:
        root: Where they are, for messages.
        classes: The images of each class.
        per_class: How many of each to draw.
        seed: Same seed, same images, whatever other images there are.

    Returns:
        Their paths, by class.

    Raises:
        InputError: A class has too few to leave any for training.
    """
    for name, paths in classes.items():
        if len(paths) <= per_class:
            raise InputError(
                f"{root}: class {name!r} has {len(paths)} images: {per_class} for validation "
                f"leave none for training; filter --more-than {per_class} removes such classes"
            )
    return {name: draw(paths, per_class, seed) for name, paths in classes.items()}


def move_validation(tree: Folder, target: Path, per_class: int, seed: int) -> int:
    """Moves the images for validation to another folder, of the same class folders.

    Interrupted, it goes on where it was when it is called again: what was moved before counts.

    Returns:
        How many images were moved.

    Raises:
        InputError: A class has too few images, or `target` holds images that `seed` did not draw;
            nothing was moved.
        OSError: An image cannot be moved.
    """
    before = set(Folder(target, tree.extensions).walk()) if target.is_dir() else set()
    classes = {name: set(paths) for name, paths in tree.classes().items()}
    for path in before:
        classes.setdefault(tree.class_of(path), set()).add(path)
    together = {name: sorted(paths) for name, paths in classes.items()}
    drawn = choose_validation(tree.root, together, per_class, seed)
    chosen = [path for paths in drawn.values() for path in paths]
    if wrong := sorted(before.difference(chosen)):
        raise InputError(
            f"{target / wrong[0]}: is there already, and is not among the {per_class} that "
            f"seed {seed} draws; nothing was moved"
        )
    waiting = [path for path in chosen if path not in before]
    for path in waiting:
        (target / posixpath.dirname(path)).mkdir(parents=True, exist_ok=True)
        os.rename(tree.root / path, target / path)
    return len(waiting)
