"""LMDB folders as Caffe writes them: keys in order, values read where they lie in the file."""

import os
import threading
from array import array
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

import lmdb

from train.errors import InputError

#: Environments that are open in this process, by real path: LMDB forbids opening one twice.
_open: "WeakValueDictionary[str, _Environment]" = WeakValueDictionary()
_opening = threading.Lock()


class _Environment:
    """An open LMDB folder; closed when nobody refers to it any more."""

    def __init__(self, path: str):
        self.env = lmdb.open(path, readonly=True, lock=False, create=False, max_dbs=0)

    def __del__(self) -> None:
        if hasattr(self, "env"):
            self.env.close()


class LmdbFile:
    """Reads an LMDB folder, from any number of threads.

    It can be pickled; the copy opens the folder for itself, once for each process.

    Args:
        path: The folder with data.mdb in it.

    Raises:
        InputError: It is missing, no LMDB, or truncated.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        real = os.path.realpath(self.path)
        try:
            with _opening:
                environment = _open.get(real)
                if environment is None:
                    environment = _open[real] = _Environment(self.path)
        except lmdb.Error as error:
            raise InputError(f"{self.path}: cannot open the LMDB: {_reason(error)}") from error
        self._environment = environment
        self._check_size()
        self._local = threading.local()
        self.keys = Keys(self._transaction())

    def __reduce__(self) -> tuple[type["LmdbFile"], tuple[str]]:
        return LmdbFile, (self.path,)

    def __len__(self) -> int:
        return len(self.keys)

    def value(self, index: int) -> memoryview:
        """Returns the value of a key as a view of the file.

        Args:
            index: The key's position in the order of keys.

        Raises:
            InputError: The pages of the file contradict each other.
        """
        key = self.keys[index]
        try:
            value = self._transaction().get(key)
        except lmdb.Error as error:
            raise InputError(f"{self.path}: key {text(key)}: {_reason(error)}") from error
        if value is None:
            raise InputError(f"{self.path}: key {text(key)}: is gone since the LMDB was opened")
        return memoryview(value)

    def values(self) -> Iterator[memoryview]:
        """Returns all values in the order of the keys, as views of the file."""
        with self._transaction().cursor() as cursor:
            yield from cursor.iternext(keys=False, values=True)

    def _transaction(self) -> Any:
        # One for each thread, kept open: that the file is not written to is what all this rests on.
        if not hasattr(self._local, "transaction"):
            self._local.transaction = self._environment.env.begin(buffers=True)
        return self._local.transaction

    def _check_size(self) -> None:
        # LMDB itself would be killed by a signal on the first page that is not there.
        env = self._environment.env
        expected = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        size = os.stat(os.path.join(self.path, "data.mdb")).st_size
        if size < expected:
            raise InputError(
                f"{self.path}/data.mdb: byte {size}: truncated, its pages end at byte {expected}"
            )


class Keys:
    """The keys of an LMDB in order, in little more memory than their bytes take."""

    def __init__(self, transaction: Any):
        joined, ends = bytearray(), array("q", [0])
        with transaction.cursor() as cursor:
            for key in cursor.iternext(keys=True, values=False):
                joined += key
                ends.append(len(joined))
        self._joined, self._ends = bytes(joined), ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return self._joined[self._ends[index] : self._ends[index + 1]]


def text(key: bytes) -> str:
    """Returns a key as a message shows it."""
    return repr(key.decode("utf-8", "backslashreplace"))


def _reason(error: lmdb.Error) -> str:
    return str(error).rpartition(": ")[2]
