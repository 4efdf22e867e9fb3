"""RecordIO: records one after the other, each findable from any byte of the file.

Little-endian. A part is a magic word, a word of flag (3 bits) and length (29 bits), the bytes, and
zeros up to the next multiple of 4. Most records are one part (flag 0). Where the magic word stands
in a payload at a multiple of 4, the writer ends the part, leaves those 4 bytes out, and goes on in
a new one (flags 1 first, 2 middle, 3 last); the reader puts them back. So an aligned magic word is
always the head of a part, and a reader that starts anywhere finds the next record.
"""

import os
import struct
import weakref
from collections.abc import Iterator
from typing import NamedTuple

from train.errors import InputError

MAGIC = 0xCED7230A
#: The longest part: its length has 29 bits.
MOST_BYTES = (1 << 29) - 1

_MAGIC_BYTES = struct.pack("<I", MAGIC)
_HEAD = struct.Struct("<II")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
#: Read at once where the length is not known yet; most records are smaller.
_GUESS_BYTES = 1 << 18
#: Read at once when records are read one after the other.
_RUN_BYTES = 1 << 22
#: Read at once while looking for a head.
_SEARCH_BYTES = 1 << 20


def encode(payload: bytes) -> bytes:
    """Returns a payload as it stands in a file.

    Args:
        payload: At most :data:`MOST_BYTES` bytes.

    Raises:
        ValueError: It is longer.

    Example:
        >>> encode(b"abcde").hex(" ", 4)
        '0a23d7ce 05000000 61626364 65000000'
    """
    if len(payload) > MOST_BYTES:
        raise ValueError(f"a record has at most {MOST_BYTES} bytes, not {len(payload)}")
    pieces: list[bytes] = []
    begin = 0
    while (cut := _find_aligned(payload, begin)) >= 0:
        flag = _MIDDLE if pieces else _FIRST
        pieces += [_HEAD.pack(MAGIC, flag << 29 | cut - begin), payload[begin:cut]]
        begin = cut + 4
    flag = _LAST if pieces else _WHOLE
    rest = payload[begin:] if pieces else payload
    pieces += [_HEAD.pack(MAGIC, flag << 29 | len(rest)), rest, bytes(-len(rest) % 4)]
    return b"".join(pieces)


def _find_aligned(data: bytes, begin: int) -> int:
    place = data.find(_MAGIC_BYTES, begin)
    while place >= 0 and place % 4:
        place = data.find(_MAGIC_BYTES, place + 1)
    return place


class Head(NamedTuple):
    """Where a record stands, and how it begins.

    Attributes:
        offset: Its first byte in the file.
        end: The byte after it, padding included.
        begin: The first bytes of its payload.
    """

    offset: int
    end: int
    begin: bytes


class RecordFile:
    """Reads a RecordIO file at any place, from any number of threads.

    It can be pickled; the copy opens the file for itself.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot read the record file: {error.strerror}"
            ) from error
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def __reduce__(self) -> tuple[type["RecordFile"], tuple[str]]:
        return RecordFile, (self.path,)

    def read(self, offset: int, end: int | None = None) -> tuple[memoryview | bytes, int]:
        """Reads the record that begins at a place.

        Args:
            offset: Its first byte.
            end: Where it ends, if that is known; saves nothing but a second read.

        Returns:
            Its payload, and where it ends.

        Raises:
            InputError: No whole record stands there; names the file and the byte.
        """
        span = _GUESS_BYTES if end is None else end - offset
        return self._decode(self._pread(min(span, self.size - offset), offset), offset)

    def records(self, offset: int = 0) -> Iterator[memoryview | bytes]:
        """Reads one record after the other, from `offset` to the end of the file.

        Raises:
            InputError: The file is damaged; names it and the byte.
        """
        while offset < self.size:
            # Many records with one read; they are views of what it returned.
            view = memoryview(self._pread(_RUN_BYTES, offset))
            place = 0
            while place + 8 <= len(view):
                magic, word = _HEAD.unpack_from(view, place)
                end = place + 8 + (word + 3 & ~3)
                # A word without a flag is the length of a whole record.
                if magic != MAGIC or word > MOST_BYTES or end > len(view):
                    break
                yield view[place + 8 : place + 8 + word]
                place = end
            offset += place
            if not place:
                # Not whole in what was read: in parts, long, or damaged.
                payload, offset = self.read(offset)
                yield payload

    def heads(self, begin_bytes: int, offset: int = 0, end: int | None = None) -> Iterator[Head]:
        """Goes from record to record without reading their payloads.

        Args:
            begin_bytes: How much of each payload to return.
            offset: Where to start: the first byte of a record.
            end: Only records that begin before this byte; None takes all.

        Raises:
            InputError: The file is damaged; names it and the byte.
        """
        stop = self.size if end is None else end
        while offset < stop:
            start, data = offset, self._pread(8 + begin_bytes, offset)
            flag, length = self._head(data, offset)
            if flag not in (_WHOLE, _FIRST):
                raise self._error(offset, "the middle of a record, where one should begin")
            begin = data[8 : 8 + min(length, begin_bytes)]
            offset = self._after(offset, length)
            if flag == _FIRST:
                # Rare, and its first bytes may lie in several parts.
                payload, offset = self.read(start)
                begin = bytes(payload[:begin_bytes])
            yield Head(start, offset, begin)

    def find_head(self, offset: int) -> int:
        """Returns where the first record begins that does not begin before `offset`."""
        place = offset + -offset % 4
        while place + 8 <= self.size:
            # One word more than the step: the word after the last magic word says what it heads.
            data = self._pread(_SEARCH_BYTES + 4, place)
            found = _find_aligned(data, 0)
            while 0 <= found <= len(data) - 8:
                if self._head(data[found : found + 8], place)[0] in (_WHOLE, _FIRST):
                    return place + found
                found = _find_aligned(data, found + 4)
            place += _SEARCH_BYTES
        return self.size

    def _decode(self, data: bytes, offset: int) -> tuple[memoryview | bytes, int]:
        flag, length = self._head(data, offset)
        end = self._after(offset, length)
        if flag == _WHOLE:
            if len(data) < 8 + length:
                data += self._pread(8 + length - len(data), offset + len(data))
            return memoryview(data)[8 : 8 + length], end
        if flag != _FIRST:
            raise self._error(offset, "the middle of a record, where one should begin")
        pieces = [self._pread(length, offset + 8)]
        while flag != _LAST:
            flag, length = self._head(self._pread(8, end), end)
            if flag not in (_MIDDLE, _LAST):
                raise self._error(end, "a new record before the one before it has ended")
            pieces.append(self._pread(length, end + 8))
            end = self._after(end, length)
        return _MAGIC_BYTES.join(pieces), end

    def _head(self, data: bytes, offset: int) -> tuple[int, int]:
        if len(data) < 8:
            raise self._error(offset, f"truncated: {len(data)} bytes are left, a head has 8")
        magic, word = _HEAD.unpack_from(data)
        if magic != MAGIC:
            raise self._error(
                offset, f"wrong magic {magic:#010x}, a record begins with {MAGIC:#010x}"
            )
        return word >> 29, word & MOST_BYTES

    def _after(self, offset: int, length: int) -> int:
        end = offset + 8 + length + -length % 4
        if end > self.size:
            raise self._error(
                offset, f"truncated: the record ends at byte {end}, the file at {self.size}"
            )
        return end

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            data = os.pread(self._descriptor, max(count, 0), offset)
        except OSError as error:
            raise self._error(offset, f"cannot read: {error.strerror}") from error
        return data

    def _error(self, offset: int, problem: str) -> InputError:
        return InputError(f"{self.path}: byte {offset}: {problem}")
