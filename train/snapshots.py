"""Snapshots: written whole or not at all, checked before they are loaded, exact when resumed."""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chainer
import numpy as np
from chainer import serializers, training

from swapmem.files import replacing
from train.errors import InputError

_PREFIX = "snapshot_iter_"
_MODEL = "updater/model:main/"
_OWN = "extensions/Snapshot/"
#: Stands for None. Chainer would pickle it, and then loading a file could run what is in it.
_NONE = np.zeros(0, dtype="V1")


def save(path: str | os.PathLike[str], target: Any) -> None:
    """Writes a chain, a trainer or a dictionary of arrays as npz, in one step.

    Not compressed: trained weights barely shrink, and it would take many times as long.

    Args:
        path: The file to write or replace.
        target: What Chainer can serialize, or what ``chainer.serializers.npz.serialize`` returned.

    Raises:
        OSError: The file cannot be written; what stood at `path` is untouched.
    """
    arrays = target if isinstance(target, dict) else serializers.npz.serialize(target)
    plain: dict[str, Any] = {
        k: _NONE if np.asarray(v).dtype == object else v for k, v in arrays.items()
    }
    with replacing(path) as file:
        np.savez(file, **plain)


class Snapshot(training.Extension):
    """Saves the trainer, and with it what Chainer leaves out.

    Beside the trainer's own state a snapshot holds what tells this run from others, and which
    snapshots of this run are kept. A run that is resumed from it gives the same weights, bit for
    bit, as one that was not interrupted. It needs no random state: see
    :class:`train.updaters.Updater`.

    Args:
        identity: What a run that resumes must have in common with this one, by option name.
        n_retains: How many snapshots to keep; older ones that this run wrote are removed, no
            other file ever is. 0 keeps all.
        writes: Whether this process writes them; of several processes only one does, and all
            load them.
    """

    # After all others: a snapshot holds their state as it is at the end of the iteration.
    priority = -200

    def __init__(self, identity: Mapping[str, str | int], n_retains: int = 0, writes: bool = True):
        self._identity = dict(identity)
        self._n_retains = n_retains
        self._writes = writes
        self._written: list[str] = []

    def __call__(self, trainer: training.Trainer) -> None:
        """Writes ``snapshot_iter_N`` into the trainer's output directory."""
        if not self._writes:
            return
        name = f"{_PREFIX}{trainer.updater.iteration}"
        self._written = [w for w in self._written if w != name] + [name]
        stale = self._written[: -self._n_retains] if self._n_retains else []
        self._written = self._written[len(stale) :]
        save(Path(trainer.out, name), trainer)
        for old in stale:
            Path(trainer.out, old).unlink(missing_ok=True)

    def serialize(self, serializer: Any) -> None:
        """Saves or loads the names of the snapshots that are kept."""
        self._written = json.loads(serializer("written", json.dumps(self._written)))
        # Compared by load_trainer before anything is loaded.
        serializer("identity", json.dumps(self._identity))

    def check_identity(self, path: Path, saved: Mapping[str, str | int]) -> None:
        """Raises InputError where `saved`, read from `path`, differs from this run."""
        for option, value in self._identity.items():
            if saved.get(option) != value:
                raise InputError(
                    f"{path}: was taken with --{option} {saved.get(option)}, this run has "
                    f"--{option} {value}: resume with the same"
                )

    def forget(self) -> None:
        """Takes no snapshot written so far for this run's own, so that none is removed."""
        self._written = []


def load_model(path: str | os.PathLike[str], model: chainer.Chain) -> None:
    """Loads weights into a model, all of them or none.

    Args:
        path: A ``model_iter_N`` or a ``snapshot_iter_N``, or an npz file that Chainer's
            ``save_npz`` wrote of a model of the same architecture.
        model: The model to fill.

    Raises:
        InputError: The file is missing, damaged, or holds another model; `model` is untouched.
    """
    with _opened(path) as arrays:
        prefix = _MODEL if any(key.startswith(_MODEL) for key in arrays) else ""
        _require_model(Path(path), arrays, prefix, model)
        serializers.NpzDeserializer(arrays, path=prefix).load(model)


def load_trainer(path: str | os.PathLike[str], trainer: training.Trainer) -> None:
    """Loads a snapshot into a trainer that has not run yet.

    Args:
        path: A ``snapshot_iter_N``.
        trainer: The trainer, with the same extensions as the one that was saved.

    Raises:
        InputError: The file is missing, damaged, not of this trainer, or of a run with other
            options.
    """
    path = Path(path)
    extension = trainer.get_extension("Snapshot")
    with _opened(path) as arrays:
        if f"{_OWN}identity" not in arrays:
            raise InputError(
                f"{path}: not a snapshot of this trainer; weights alone are loaded with --initmodel"
            )
        extension.check_identity(path, json.loads(str(arrays[f"{_OWN}identity"])))
        model = trainer.updater.get_optimizer("main").target
        _require_model(path, arrays, _MODEL, model)
        serializers.NpzDeserializer(arrays).load(trainer)
    if path.resolve().parent != Path(trainer.out).resolve():
        extension.forget()


def newest(directory: str | os.PathLike[str]) -> Path | None:
    """Returns the snapshot in `directory` that was written last, or None if there is none."""
    found = [p for p in Path(directory).glob(f"{_PREFIX}*") if p.name[len(_PREFIX) :].isdigit()]
    return max(
        found, key=lambda p: (p.stat().st_mtime_ns, int(p.name[len(_PREFIX) :])), default=None
    )


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of an npz file, None where it says so."""

    def __init__(self, file: np.lib.npyio.NpzFile):
        self._file = file

    def __getitem__(self, key: str) -> np.ndarray:
        array = self._file[key]
        return np.asarray(None) if array.dtype == _NONE.dtype else array

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[_Arrays]:
    try:
        if not zipfile.is_zipfile(path):
            Path(path).stat()  # a missing file is missing, not damaged
            raise InputError(f"{path}: damaged, or no npz file at all")
        with np.load(path, allow_pickle=False) as file:
            yield _Arrays(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    # zipfile checks sums, but first it believes what a damaged directory says: "encrypted",
    # "compressed in a way I do not know".
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError) as error:
        raise InputError(f"{path}: damaged: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: does not fit this run: {error}") from error


def _require_model(path: Path, arrays: _Arrays, prefix: str, model: chainer.Chain) -> None:
    """Compares names and shapes, which Chainer leaves out or broadcasts; reads every byte."""
    expected = serializers.npz.serialize(model)
    found = {key.removeprefix(prefix) for key in arrays if key.startswith(prefix)}
    kind = type(model).__name__
    if missing := sorted(expected.keys() - found):
        raise InputError(f"{path}: not a {kind}: it lacks {missing[0]!r}")
    if surplus := sorted(found - expected.keys()):
        raise InputError(f"{path}: not a {kind}: no part of it is called {surplus[0]!r}")
    for name, array in sorted(expected.items()):
        saved = arrays[prefix + name]
        if saved.shape != np.shape(array) or saved.dtype.kind != np.asarray(array).dtype.kind:
            raise InputError(
                f"{path}: not this {kind}: {name!r} has shape {saved.shape}, "
                f"the model's has {np.shape(array)}"
            )
