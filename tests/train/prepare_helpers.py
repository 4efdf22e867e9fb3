"""Trees of small photographs, and commands run on them."""

import io
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from train.prepare.commands import prepare


def jpeg(number: int, height: int = 12, width: int = 20) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def write_tree(root: str, counts: dict[str, int], first: int = 0) -> Path:
    """Writes so many photographs into each class's folder; a path has a space in it."""
    number = first
    for name, count in counts.items():
        Path(root, name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            Path(root, name, f"photo {i:02}.JPEG").write_bytes(jpeg(number))
            number += 1
    return Path(root)


def files(root: str | Path) -> dict[str, bytes]:
    """Returns every file's contents by its path; hidden ones too."""
    root = Path(root)
    found = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(prepare, [str(argument) for argument in arguments])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    """Runs a command that must end with one line and status 2, and returns the line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("prepare: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr
