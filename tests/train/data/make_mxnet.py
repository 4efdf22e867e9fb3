"""Makes mxnet.lst, mxnet.rec and mxnet.idx with MXNet's im2rec, and mxnet.json with its reader.

pip install mxnet==1.9.1 'numpy<1.24' opencv-python-headless
python tests/train/data/make_mxnet.py

Seven PNG images of 4 x 3 pixels, number n in red 10 n. Before the pixels there is a chunk of n
magic words, some of them at multiples of 4; image 5 ends with two more that are. mxnet.json says
which images are in which part of several, with and without the index.
"""

from __future__ import annotations  # it runs on Python 3.8

import json
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import mxnet

HERE = Path(__file__).parent
MAGIC = struct.pack("<I", 0xCED7230A)
# Key, labels.
ROWS = [(0, (2,)), (3, (0,)), (1, (1, 0.5, 7)), (2, (1,)), (6, (2,)), (4, (0, -3)), (5, (1,))]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def image(number: int) -> bytes:
    head = struct.pack(">IIBBBBB", 4, 3, 8, 2, 0, 0, 0)
    # Behind signature, head and the chunk's own head the words begin at a multiple of 4.
    words = b"   " + b"".join(MAGIC + b"x" * place for place in range(number))
    pixels = zlib.compress(3 * (b"\0" + 4 * bytes([10 * number, 0, 0])))
    chunks = chunk(b"IHDR", head) + chunk(b"maGc", words) + chunk(b"IDAT", pixels)
    data = b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")
    return data + bytes(-len(data) % 4) + 2 * MAGIC if number == 5 else data


def part(parts: int, index: int, **options: str) -> list[int]:
    batches = mxnet.io.ImageRecordIter(
        path_imgrec=str(HERE / "mxnet.rec"),
        path_imglist=str(HERE / "mxnet.lst"),
        data_shape=(3, 3, 4),
        batch_size=1,
        num_parts=parts,
        part_index=index,
        **options,
    )
    return [int(batch.data[0].asnumpy()[0, 0, 0, 0]) // 10 for batch in batches]


def main() -> None:
    im2rec = Path(mxnet.__file__).parent / "tools" / "im2rec.py"
    with tempfile.TemporaryDirectory() as root:
        for key, _ in ROWS:
            Path(root, f"photo {key}.png").write_bytes(image(key))
        (HERE / "mxnet.lst").write_text(
            "".join(
                "\t".join([str(key), *(f"{label:f}" for label in labels), f"photo {key}.png\n"])
                for key, labels in ROWS
            )
        )
        options = ["--pass-through", "--pack-label"]
        subprocess.run([sys.executable, im2rec, HERE / "mxnet", root, *options], check=True)
    index = {"path_imgidx": str(HERE / "mxnet.idx")}
    found = {
        name: [[part(parts, i, **options) for i in range(parts)] for parts in range(1, 5)]
        for name, options in (("index", index), ("no index", {}))
    }
    (HERE / "mxnet.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
