"""Images in class folders, or in tar archives as ImageNet comes: a tar of class tars."""

import os
import posixpath
import tarfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from train.errors import InputError

#: What im2rec takes for images.
EXTENSIONS = (".jpeg", ".jpg", ".png")


class Tree(ABC):
    """Images by their paths, whose directory is the class.

    Attributes:
        root: The folder or archive.
    """

    root: Path

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """Returns every image's path from the root, sorted class by class.

        Raises:
            InputError: An image is in no class's directory.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Reads an image.

        Raises:
            OSError: There is none, or it cannot be read.
        """

    def classes(self) -> dict[str, list[str]]:
        """Returns the images of each class, in the order of :meth:`walk`.

        Raises:
            InputError: There is no image at all, or one is in no class's directory.
        """
        found: dict[str, list[str]] = {}
        for path in self.walk():
            found.setdefault(self.class_of(path), []).append(path)
        if not found:
            raise InputError(f"{self.root}: no image in it")
        return found

    def class_of(self, path: str) -> str:
        """Returns the class of an image.

        Raises:
            InputError: It is in no class's directory.
        """
        name = posixpath.dirname(path)
        if not name:
            raise InputError(f"{self.root}: {path!r} is in no class's directory")
        return name


class Folder(Tree):
    """A folder of class folders.

    Args:
        root: The folder.
        extensions: What the names of images end with, in small letters.
    """

    def __init__(self, root: Path, extensions: Sequence[str] = EXTENSIONS):
        self.root = root
        self.extensions = tuple(extensions)

    def walk(self) -> Iterator[str]:
        """Returns every image's path from the root, in the order of im2rec."""
        for directory, below, files in os.walk(self.root, followlinks=True, onerror=_refuse):
            below.sort()
            inside = Path(directory).relative_to(self.root)
            for name in sorted(files):
                if name.lower().endswith(self.extensions):
                    yield (inside / name).as_posix()

    def read(self, path: str) -> bytes:
        """Reads an image's file."""
        return (self.root / path).read_bytes()

    def empty_classes(self) -> list[str]:
        """Returns the folders in the root that hold no image at any depth."""
        full = {path.partition("/")[0] for path in self.walk()}
        folders = (entry.name for entry in os.scandir(self.root) if entry.is_dir())
        return sorted(name for name in folders if name not in full)


class _Place(NamedTuple):
    file: int
    offset: int
    size: int


class Archives(Tree):
    """Tar archives, read where they lie, without unpacking them.

    A tar inside one is a class of the tar's name; other images are in the class of their
    directory.

    Args:
        root: A tar archive, or a folder of class tars.
        extensions: What the names of images end with, in small letters.

    Raises:
        InputError: An archive cannot be read, is compressed, or is truncated; names it and the
            byte.
    """

    def __init__(self, root: Path, extensions: Sequence[str] = EXTENSIONS):
        self.root = root
        self.extensions = tuple(extensions)
        self._descriptors: list[int] = []
        self._places: dict[str, _Place] = {}
        for path in [root] if root.is_file() else sorted(root.glob("*.tar")):
            self._add(path, "" if root.is_file() else path.stem)

    def walk(self) -> Iterator[str]:
        """Returns every image's path, sorted as a folder's would be."""
        for path in sorted(self._places, key=lambda path: path.split("/")):
            self.class_of(path)
            yield path

    def read(self, path: str) -> bytes:
        """Reads an image out of its archive."""
        place = self._places.get(path)
        if place is None:
            raise FileNotFoundError(2, "No such file in the archive", path)
        return os.pread(self._descriptors[place.file], place.size, place.offset)

    def _add(self, path: Path, directory: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        self._descriptors.append(descriptor)
        with tarfile.open(path, "r:") if _is_tar(path) else _no_tar(path) as tar:
            self._scan(tar, path, directory, 0)

    def _scan(self, tar: tarfile.TarFile, path: Path, directory: str, base: int) -> None:
        size = os.path.getsize(path)
        for member in _members(tar, path, base):
            begin = base + member.offset_data
            if begin + member.size > size:
                raise InputError(
                    f"{path}: byte {begin}: truncated: {member.name!r} ends at byte "
                    f"{begin + member.size}, the archive at {size}"
                )
            name = posixpath.normpath(posixpath.join(directory, member.name))
            if name.lower().endswith(self.extensions):
                self._places[name] = _Place(len(self._descriptors) - 1, begin, member.size)
            elif name.lower().endswith(".tar"):
                inside = tar.extractfile(member)
                assert inside is not None  # only directories and devices have no contents
                with tarfile.open(fileobj=inside, mode="r:") as inner:
                    self._scan(inner, path, name[: -len(".tar")], begin)


def open_tree(root: str | os.PathLike[str], extensions: Sequence[str] = EXTENSIONS) -> Tree:
    """Opens a folder of class folders, a folder of class tars, or a tar of either.

    Raises:
        InputError: It is not there, or an archive is damaged.
    """
    path = Path(root)
    try:
        if path.is_file() or any(path.glob("*.tar")):
            return Archives(path, extensions)
        os.scandir(path).close()
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    return Folder(path, extensions)


def _is_tar(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar" or not path.stat().st_size


def _no_tar(path: Path) -> tarfile.TarFile:
    raise InputError(
        f"{path}: byte 0: no tar archive; a compressed one is to be unpacked with gunzip or the "
        f"like before"
    )


def _members(tar: tarfile.TarFile, path: Path, base: int) -> Iterator[tarfile.TarInfo]:
    try:
        for member in tar:
            if member.isreg():
                yield member
            tar.members = []  # type: ignore[attr-defined]  # would grow with every member
    except tarfile.TarError as error:
        raise InputError(f"{path}: byte {base + tar.offset}: damaged archive: {error}") from error


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error
