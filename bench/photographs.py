"""Photograph-like JPEGs for the benchmarks of the data pipeline."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

#: How many are different; the others are links to these.
DIFFERENT = 64
CLASSES = 4


def photograph(number: int, height: int = 375, width: int = 500) -> bytes:
    """Returns a JPEG with the size, and about the bytes, of an ImageNet photograph.

    Args:
        number: which one.
        height: in pixels.
        width: in pixels.
    """
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + random.normal(0, 9, (height, width, 3))
    out = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=92)
    return out.getvalue()


def write(root: Path, count: int) -> Path:
    """Writes photographs into class folders and a list of them.

    Args:
        root: the folder to make.
        count: how many; beyond DIFFERENT they are links.

    Returns:
        The list file.
    """
    lines = []
    for i in range(count):
        path = root / f"c{i % CLASSES}" / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < DIFFERENT:
            path.write_bytes(photograph(i))
        else:
            first = i % DIFFERENT
            os.link(root / f"c{first % CLASSES}" / f"{first:05}.jpg", path)
        lines.append(f"{i}\t{i % CLASSES}\t{path.relative_to(root)}\n")
    listing = root / "photographs.lst"
    listing.write_text("".join(lines))
    return listing
