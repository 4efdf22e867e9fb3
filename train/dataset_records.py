"""Images in RecordIO files."""

from array import array
from pathlib import Path

from PIL import Image

from train.dataset_images import Data, Images, check_label, open_encoded, share
from train.errors import InputError
from train.records import image_record
from train.records.record_index import read_index
from train.records.recordio import Head, RecordFile


class RecordImages(Images):
    """The images of one RecordIO file; any of them is found with one read.

    Args:
        path: The file.
        offsets: Where each image's record begins.
        ends: Where each ends, at the latest.
        labels: The class of each image.

    Raises:
        InputError: The file cannot be opened, or the last of the records is not whole.
    """

    def __init__(self, path: Path, offsets: array, ends: array, labels: array):
        self.source = path
        self._file = RecordFile(path)
        self._offsets = offsets
        self._ends = ends
        self._labels = labels
        # A file that lost its end is noticed now and not after hours.
        last = max(range(len(offsets)), key=offsets.__getitem__)
        self._file.read(offsets[last], ends[last])

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def labels(self) -> array:
        return self._labels

    def all_labels(self, index: int) -> tuple[float, ...]:
        """Returns every label that was packed with image `index`; the first is its class."""
        return self._record(index, self.read(index)).labels

    def where(self, index: int) -> str:
        return _at(self.source, self._offsets[index])

    def called(self, index: int) -> str:
        return f"#{index}"

    def read(self, index: int) -> Data:
        return self._file.read(self._offsets[index], self._ends[index])[0]

    def decode(self, index: int, data: Data) -> tuple[Image.Image, int]:
        return open_encoded(self._record(index, data).image), self._labels[index]

    def _record(self, index: int, data: Data) -> image_record.ImageRecord:
        try:
            return image_record.unpack(data)
        except ValueError as error:
            raise InputError(f"{self.where(index)}: no image: {error}") from error


def open_records(
    path: Path,
    classes: int | None = None,
    labels: dict[int, int] | None = None,
    number: int = 0,
    parts: int = 1,
) -> RecordImages:
    """Opens a RecordIO file, through its index where there is one beside it.

    Without an index the file is gone through once, head by head, and a part is an equal share of
    its bytes, from the first record that begins there; with one, an equal share of its records.

    Args:
        path: The file; its index is the file of the same name with ``.idx``.
        classes: Labels must be below this; None takes every label from 0 up.
        labels: The class of each key of the index, from a list file; records of other keys are
            left out. None takes the labels that were packed.
        number: Which part, from 0.
        parts: How many parts there are.

    Raises:
        InputError: Something of it is missing or damaged; names the file and the place.
    """
    file = RecordFile(path)
    index_path = path.with_suffix(".idx")
    if not index_path.exists():
        if labels is not None:
            raise InputError(f"{index_path}: not there; the list file says labels by its keys")
        return _without_index(path, file, classes, number, parts)
    index = read_index(index_path, file.size)
    rows = range(len(index)) if labels is None else _listed(index.keys, labels, index_path)
    rows = [rows[i] for i in share(len(rows), number, parts, str(path))]
    offsets = array("q", [index.offsets[row] for row in rows])
    ends = array("q", [index.ends[row] for row in rows])
    if labels is None:
        found = (_packed_label(path, _head_at(file, offset), classes) for offset in offsets)
        return RecordImages(path, offsets, ends, array("i", found))
    return RecordImages(path, offsets, ends, array("i", [labels[index.keys[row]] for row in rows]))


def _listed(keys: array, labels: dict[int, int], index_path: Path) -> list[int]:
    rows = {key: row for row, key in enumerate(keys)}
    # The list's order; what could not be read when it was packed has no record.
    listed = [rows[key] for key in labels if key in rows]
    if not listed:
        raise InputError(f"{index_path}: none of its keys is in the list file")
    return listed


def _without_index(
    path: Path, file: RecordFile, classes: int | None, number: int, parts: int
) -> RecordImages:
    if not 0 <= number < parts:
        raise ValueError(f"part {number} of {parts}")
    if not file.size:
        raise InputError(f"{path}: byte 0: the record file is empty")
    step = -(-file.size // parts)
    begin, end = (min(n * step + -(n * step) % 4, file.size) for n in (number, number + 1))
    # From the very first byte a damaged file is noticed, elsewhere the next record is looked for.
    offset = file.find_head(begin) if begin else 0
    offsets, ends, labels = array("q"), array("q"), array("i")
    for head in file.heads(image_record.LABEL_BYTES, offset, end):
        offsets.append(head.offset)
        ends.append(head.end)
        labels.append(_packed_label(path, head, classes))
    if not offsets:
        raise InputError(f"{path}: no record begins in part {number} of {parts}")
    return RecordImages(path, offsets, ends, labels)


def _head_at(file: RecordFile, offset: int) -> Head:
    return next(file.heads(image_record.LABEL_BYTES, offset))


def _packed_label(path: Path, head: Head, classes: int | None) -> int:
    try:
        label = image_record.first_label(head.begin)
    except ValueError as error:
        raise InputError(f"{_at(path, head.offset)}: no image: {error}") from error
    return check_label(label, _at(path, head.offset), classes)


def _at(path: Path, offset: int) -> str:
    return f"{path}: byte {offset}"
