"""The index beside a RecordIO file: the key of each record and where it begins."""

import os
from array import array
from dataclasses import dataclass

import numpy as np

from train.errors import InputError


@dataclass(frozen=True)
class RecordIndex:
    """What an index file says, in its order.

    Attributes:
        keys: The key of each record.
        offsets: Its first byte in the record file.
        ends: The byte after it.
    """

    keys: array
    offsets: array
    ends: array

    def __len__(self) -> int:
        return len(self.keys)


def read_index(path: str | os.PathLike[str], size: int) -> RecordIndex:
    """Reads an index file, a ``key TAB offset`` a line.

    Args:
        path: The index file.
        size: Bytes of the record file it belongs to.

    Raises:
        InputError: It cannot be read, a line is something else, or an offset lies outside of the
            record file; names the file and the line.
    """
    keys, offsets = array("q"), array("q")
    number = 0
    try:
        with open(path, encoding="ascii") as file:
            for number, line in enumerate(file, start=1):
                key, tab, offset = line.partition("\t")
                if not tab:
                    raise ValueError
                keys.append(int(key))
                offsets.append(int(offset))
                if not 0 <= offsets[-1] < size:
                    raise InputError(
                        f"{path}:{number}: a record at byte {offsets[-1]}, and the record file "
                        f"has {size}: one of the two is truncated or belongs to another"
                    )
    except OSError as error:
        raise InputError(f"{path}: cannot read the index: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}:{number}: expected 'key TAB offset'") from error
    if not keys:
        raise InputError(f"{path}: the index names no record")
    # Where one record ends the next begins, whatever the order of the lines.
    places = np.append(np.unique(np.frombuffer(offsets, np.int64)), size)
    ends = places[np.searchsorted(places, np.frombuffer(offsets, np.int64), side="right")]
    return RecordIndex(keys, offsets, array("q", ends.tobytes()))
