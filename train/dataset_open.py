"""One way to open whatever holds labelled images."""

import os
import re
from pathlib import Path

from train.dataset_images import Chained, Images
from train.dataset_lmdb import LmdbImages
from train.dataset_records import open_records
from train.errors import InputError
from train.imagelist import read_list, read_lst


def open_images(
    source: str | os.PathLike[str],
    root: str | os.PathLike[str] = ".",
    classes: int | None = None,
    part: int = 0,
    parts: int = 1,
) -> Images:
    """Opens labelled images.

    Args:
        source: What holds them: a ``.rec`` file (with its ``.idx`` beside it or without); a folder
            of ``.rec`` files, in the order of their names and numbers; an LMDB folder; a ``.lst``
            file, which stands for the packed records beside it where there are any and otherwise
            names image files; or any other file, a list of ``path label`` lines.
        root: The directory that a list's relative paths start from.
        classes: Labels must be below this; None takes every label from 0 up.
        part: Which share to open, from 0.
        parts: Of how many.

    Returns:
        The images, in the order of the source. Packed files that are damaged are mostly noticed
        here; an LMDB's labels and the bytes of each image are checked when they are read.

    Raises:
        InputError: The source cannot be read, is damaged, names no image, or has a label out of
            range; names the file and the place.

    Example:
        >>> images = open_images("train.rec", classes=1000)
        >>> image, label = images.decode(17, images.read(17))
    """
    path = Path(source)
    if path.is_dir():
        return _open_folder(path, classes, part, parts)
    if path.suffix == ".rec":
        return open_records(path, classes, None, part, parts)
    records = path.with_suffix(".rec")
    if path.suffix == ".lst" and records.exists():
        listed = read_lst(path, root, classes)
        labels = dict(zip(listed.keys, listed.labels, strict=True))
        return open_records(records, classes, labels, part, parts)
    images = (read_lst if path.suffix == ".lst" else read_list)(path, root, classes)
    return images if parts == 1 else images.part(part, parts)


def _open_folder(path: Path, classes: int | None, part: int, parts: int) -> Images:
    if (path / "data.mdb").exists():
        images: Images = LmdbImages(path, classes)
    else:
        files = sorted(path.glob("*.rec"), key=_by_number)
        if not files:
            raise InputError(f"{path}: neither an LMDB (data.mdb) nor a folder of .rec files")
        images = Chained(path, [open_records(file, classes) for file in files])
    return images if parts == 1 else images.part(part, parts)


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sorts chunk 10 after chunk 9."""
    return [(int(run), "") if run.isdigit() else (-1, run) for run in re.split(r"(\d+)", path.name)]
