"""What MXNet packs into a record: a head with the labels, and an encoded image."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: flag (how many labels follow), label, identity, and a second identity that is always 0.
_HEAD = struct.Struct("<IfQQ")
HEAD_BYTES = _HEAD.size
#: Of a payload, what holds its first label.
LABEL_BYTES = HEAD_BYTES + 4


class ImageRecord(NamedTuple):
    """A record taken apart.

    Attributes:
        labels: One label or several.
        identity: The key it was packed under.
        image: The encoded image.
    """

    labels: tuple[float, ...]
    identity: int
    image: memoryview


def pack(labels: Sequence[float], identity: int, image: bytes) -> bytes:
    """Returns the payload of a record.

    Args:
        labels: One label or several; they are kept as float32.
        identity: A number that tells it from the others.
        image: The encoded image.

    Example:
        >>> unpack(pack([7], 3, b"jpeg")).labels
        (7.0,)
    """
    if len(labels) == 1:
        return _HEAD.pack(0, labels[0], identity, 0) + image
    several = np.asarray(labels, "<f4").tobytes()
    return b"".join([_HEAD.pack(len(labels), 0, identity, 0), several, image])


def unpack(payload: bytes | memoryview) -> ImageRecord:
    """Takes the payload of a record apart.

    Raises:
        ValueError: It is shorter than its head says.
    """
    view = memoryview(payload)
    if len(view) < HEAD_BYTES:
        raise ValueError(f"it has {len(view)} bytes, the head of an image has {HEAD_BYTES}")
    count, label, identity, _ = _HEAD.unpack_from(view)
    if not count:
        return ImageRecord((label,), identity, view[HEAD_BYTES:])
    if len(view) < HEAD_BYTES + 4 * count:
        raise ValueError(f"it has {len(view)} bytes, too few for its {count} labels")
    labels = struct.unpack_from(f"<{count}f", view, HEAD_BYTES)
    return ImageRecord(labels, identity, view[HEAD_BYTES + 4 * count :])


def first_label(begin: bytes) -> float:
    """Returns the first label of a record, given its first :data:`LABEL_BYTES` bytes.

    Raises:
        ValueError: The record is shorter than its labels.
    """
    if len(begin) < HEAD_BYTES:
        raise ValueError(f"it has {len(begin)} bytes, the head of an image has {HEAD_BYTES}")
    count, label, _, _ = _HEAD.unpack_from(begin)
    if not count:
        return float(label)
    if len(begin) < LABEL_BYTES:
        raise ValueError(f"it has {len(begin)} bytes, too few for its {count} labels")
    return float(struct.unpack_from("<f", begin, HEAD_BYTES)[0])
