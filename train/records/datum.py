"""Caffe's Datum message, read and written without copying the image.

Decoded here and not by a protobuf library because that copies the bytes of the image, which costs
more than all the rest of reading them; the tests hold it to that library.
"""

from dataclasses import dataclass, field

_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _FLOAT_DATA, _ENCODED = range(1, 8)
_SIGNED = _CHANNELS, _HEIGHT, _WIDTH, _LABEL
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(slots=True)
class Datum:
    """An image and its label.

    Attributes:
        data: An encoded image, or uint8 (channels, height, width), blue, green, red.
        label: The class.
        encoded: Which of the two.
        channels: 0 where it was not written, as with an encoded image.
        height: In pixels; likewise.
        width: In pixels; likewise.
        floats: How many numbers stand in its other data field, which Caffe uses for features.
    """

    data: bytes | memoryview = b""
    label: int = 0
    encoded: bool = False
    channels: int = 0
    height: int = 0
    width: int = 0
    floats: int = field(default=0, compare=False)


def encode(datum: Datum) -> bytes:
    """Returns the message as Caffe writes it: fields in order, an encoded image without a shape."""
    pieces: list[bytes | memoryview] = []
    if not datum.encoded:
        shape = ((_CHANNELS, datum.channels), (_HEIGHT, datum.height), (_WIDTH, datum.width))
        pieces += [_number(which, size) for which, size in shape]
    pieces += [bytes([_DATA << 3 | _BYTES]), _varint(len(datum.data)), datum.data]
    pieces += [_number(_LABEL, datum.label), _number(_ENCODED, datum.encoded)]
    return b"".join(pieces)


def decode(message: bytes | memoryview) -> Datum:
    """Reads a message; its data is a view of it.

    Raises:
        ValueError: It is no Datum; says at which byte.
    """
    view = memoryview(message)
    place, end = 0, len(view)
    numbers = [0] * 8
    data, floats = view[:0], 0
    while place < end:
        begin = place
        key, place = _read_varint(view, place)
        which, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _read_varint(view, place)
            if which < 8:
                numbers[which] = value
            continue
        if kind == _BYTES:
            length, place = _read_varint(view, place)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"byte {begin}: no Datum, unknown kind of field {kind}")
        if place + length > end:
            raise ValueError(f"byte {begin}: truncated, a field of {length} bytes ends after it")
        if which == _DATA and kind == _BYTES:
            data = view[place : place + length]
        elif which == _FLOAT_DATA:
            floats += length // 4
        place += length
    channels, height, width, label = (_signed(numbers[which]) for which in _SIGNED)
    return Datum(data, label, bool(numbers[_ENCODED]), channels, height, width, floats)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _number(which: int, value: int) -> bytes:
    return bytes([which << 3 | _VARINT]) + _varint(value & (1 << 64) - 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(view: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    begin = place
    while shift < 70:
        if place >= len(view):
            raise ValueError(f"byte {begin}: truncated in the middle of a number")
        byte = view[place]
        place += 1
        if byte < 0x80:
            return (value | byte << shift) & (1 << 64) - 1, place
        value |= (byte & 0x7F) << shift
        shift += 7
    raise ValueError(f"byte {begin}: no Datum, a number of more than 64 bits")
