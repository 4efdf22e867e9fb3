"""Packs the images of a list: reads, transforms in threads, and hands them to a sink in order."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.dataset_images import check_label
from train.errors import InputError
from train.imagelist import Row, rows_of
from train.prepare.journal import Report, changes, load_report
from train.prepare.parallel import ordered
from train.prepare.sinks import Sink, remove, report_path
from train.prepare.transform import RawPixels, Recode, Transform
from train.prepare.tree import Tree
from train.records import datum, image_record

#: Says how many images of how many are done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MakeRecord:
    """Makes of an image the payload of a record.

    Attributes:
        transform: What is done to the image.
        all_labels: Whether all labels of a line are packed, or the first alone.
    """

    transform: Transform
    all_labels: bool = False

    def __call__(self, row: Row, data: bytes) -> bytes:
        labels = row.labels if self.all_labels else row.labels[:1]
        return image_record.pack(labels, row.key, self.transform(data))

    def options(self) -> dict[str, Any]:
        return {**self.transform.options(), "all_labels": self.all_labels}


@dataclass(frozen=True)
class MakeEncodedDatum:
    """Makes of an image a Datum that holds it encoded."""

    transform: Transform

    def __call__(self, row: Row, data: bytes) -> bytes:
        return datum.encode(datum.Datum(self.transform(data), _class(row), encoded=True))

    def options(self) -> dict[str, Any]:
        return {**self.transform.options(), "datum": "encoded"}


@dataclass(frozen=True)
class MakeRawDatum:
    """Makes of an image a Datum that holds its pixels."""

    recode: Recode

    def __call__(self, row: Row, data: bytes) -> bytes:
        pixels = RawPixels(self.recode).pixels(data)
        raw = datum.Datum(pixels.tobytes(), _class(row), False, *pixels.shape)
        return datum.encode(raw)

    def options(self) -> dict[str, Any]:
        return {**self.recode.options(), "datum": "raw"}


Make = MakeRecord | MakeEncodedDatum | MakeRawDatum


def pack(
    source: Path,
    tree: Tree,
    path: Path,
    sink: Callable[[Path, dict[str, Any]], Sink],
    make: Make,
    threads: int,
    progress: Progress,
    *,
    overwrite: bool = False,
) -> Report:
    """Packs the images that a list names.

    Interrupted, it goes on where it was when it is called again with the same list and options;
    finished, it does nothing. Images that cannot be read are left out.

    Args:
        source: The list file.
        tree: Where the images are.
        path: The packed file to write.
        sink: Its kind.
        make: What of each image is packed.
        threads: How many threads decode and encode.
        progress: Told how far it is.
        overwrite: Whether what stands at `path` is removed first.

    Returns:
        What was packed and which images could not be read.

    Raises:
        InputError: The list makes no sense, `path` holds something else, an interrupted file was
            made of something else, or not one image can be read.
        OSError: The disk is full or broken.
    """
    made_of = {"list": _digest(source), **make.options()}
    if overwrite:
        remove(path)
    if finished := _finished(path, made_of):
        return finished
    total = sum(1 for row in _checked(source, make))
    try:
        out = sink(path, made_of)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; nothing is packed", str(path)) from error
    try:
        _fill(out, source, tree, make, threads, lambda: progress(out.done, total))
        if not out.journal.keys:
            name, reason = out.journal.unreadable[0]
            remove(path)
            raise InputError(
                f"{source}: not one of its {total} images can be read; {name!r}: {reason}"
            )
        return out.finish()
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}; {out.journal.done} of {total} images are packed safely in "
            f"{out.journal.end} bytes: make room and run the same command again, it goes on there",
            str(path),
        ) from error
    finally:
        out.close()


def _fill(
    out: Sink, source: Path, tree: Tree, make: Make, threads: int, tell: Callable[[], None]
) -> None:
    def work(row: Row) -> tuple[Row, bytes | None, str]:
        try:
            return row, make(row, tree.read(row.path)), ""
        except MemoryError:
            raise
        except InputError:
            raise
        except Exception as error:  # Pillow raises nearly anything on a broken image
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return row, None, " ".join(reason.split())

    waiting = _checked(source, make)
    for _ in range(out.done):
        next(waiting)
    tell()
    for row, data, reason in ordered(work, waiting, threads):
        if data is None:
            out.skip(row, reason)
        else:
            out.add(row, data)
        tell()
    out.save()


def _checked(source: Path, make: Make) -> Iterator[Row]:
    for row in rows_of(source)(source):
        if not isinstance(make, MakeRecord):
            _class(row, f"{source}:{row.line}")
        yield row


def _class(row: Row, where: str = "") -> int:
    return check_label(row.labels[0], where, None)


def _finished(path: Path, made_of: dict[str, Any]) -> Report | None:
    index = path.with_suffix(".idx")
    if not path.exists():
        if path.suffix == ".rec" and index.exists() and not _journal(path).exists():
            raise InputError(f"{index}: exists without {path}; --overwrite replaces it")
        return None
    report = load_report(report_path(path))
    if report is None:
        if _journal(path).exists():
            return None
        raise InputError(f"{path}: exists, and no report says of what; --overwrite replaces it")
    if differences := changes(report.made_of, made_of):
        raise InputError(f"{path}: exists, made with {differences}; --overwrite replaces it")
    return report


def _journal(path: Path) -> Path:
    return path.with_name(f".{path.name}.journal")


def _digest(source: Path) -> str:
    try:
        return hashlib.sha256(source.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{source}: cannot read the list file: {error.strerror}") from error
