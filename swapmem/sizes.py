"""Byte counts as people write them."""

import operator
import re

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[_letter + "b"] = 1000**_power
    _UNITS[_letter + "ib"] = 1024**_power
_MOST_BYTES = 1 << 62
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(size: int | str) -> int:
    """Reads a byte count.

    Args:
        size: bytes as an int, or a string such as "2GiB", "1.5 GB" or "4096".

    Returns:
        The number of bytes, rounded down to a whole one.

    Raises:
        ValueError: if it is negative, more than any machine has, or no such string.
        TypeError: if it is a number but no integer.

    Example:
        >>> parse_bytes("1.5MiB")
        1572864
    """
    if not isinstance(size, str):
        return _checked(operator.index(size), size)
    match = _PATTERN.fullmatch(size)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"not a size: {size!r}; write bytes as a number or such as '2GiB', '8GB'")
    return _checked(int(float(match[1]) * _UNITS[match[2].lower()]), size)


def _checked(size_bytes: int, written: int | str) -> int:
    if not 0 <= size_bytes < _MOST_BYTES:
        raise ValueError(f"a size has to be from 0 to {_MOST_BYTES - 1} bytes: {written!r}")
    return size_bytes


def format_bytes(size: float) -> str:
    """Writes a byte count in the unit that fits, such as "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
