"""YAML and JSON files as plain dictionaries that know their lines."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from train.errors import InputError


@dataclass(frozen=True)
class ConfigFile:
    """What a config file says, and where.

    Attributes:
        path: The file.
        values: Value by key, as the file spells the key.
        lines: The line of each key, counted from 1.
    """

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    def where(self, key: str) -> str:
        """Returns where a key stands, as ``config.yaml:3``; the file if it has no such key."""
        return f"{self.path}:{self.lines[key]}" if key in self.lines else str(self.path)


def read_config_file(path: str | Path) -> ConfigFile:
    """Reads a config file, JSON if its name ends in .json and YAML if it ends in .yaml or .yml.

    YAML is read as version 1.2: in 1.1 a walltime of 1:20:00 is the number 4800.

    Args:
        path: The file.

    Returns:
        Its keys, values and lines.

    Raises:
        InputError: The file cannot be read, is not what its name says, names a key twice, or is no
            list of keys and values; names file and line.
    """
    path = Path(path)
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".json": _read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: the name of a config ends in .yaml, .yml or .json")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot read the config: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text, at byte {error.start}") from error
    return reader(path, text)


def _read_yaml(path: Path, text: str) -> ConfigFile:
    try:
        values = YAML(typ="rt", pure=True).load(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = (error.problem or "cannot be parsed").splitlines()[0]
        raise InputError(f"{where}: not YAML: {problem}") from error
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, CommentedMap):
        raise _not_a_mapping(path)
    lines = {str(key): values.lc.key(key)[0] + 1 for key in values}
    return ConfigFile(path, {str(key): _plain(value) for key, value in values.items()}, lines)


def _plain(value: Any) -> Any:
    """Replaces the parser's containers, which remember comments, by Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _read_json(path: Path, text: str) -> ConfigFile:
    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                line = _lines_of(key, text)[1]
                raise InputError(f"{path}:{line}: the key {key!r} stands here a second time")
            values[key] = value
        return values

    try:
        values = json.loads(text, object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(values, dict):
        raise _not_a_mapping(path)
    return ConfigFile(path, values, {key: _lines_of(key, text)[0] for key in values})


def _lines_of(key: str, text: str) -> list[int]:
    """Returns the lines on which a key stands; Python's parser does not tell."""
    found = re.finditer(rf"{re.escape(json.dumps(key, ensure_ascii=False))}\s*:", text)
    lines = [text.count("\n", 0, match.start()) + 1 for match in found]
    # A key spelled with escapes is not found; the file's first line is better than none.
    return [*lines, 1, 1]


def _not_a_mapping(path: Path) -> InputError:
    return InputError(f"{path}: a config is a list of 'key: value', one a line")
