"""Images as the network sees them: decoded, cropped, less the mean, scaled."""

import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train.errors import InputError
from train.imagelist import ImageList

#: How many images :func:`broken` has in flight at most; bounds its memory, not its result.
_SCAN_CHUNK = 1024


class Examples(Protocol):
    """A data set whose examples depend on nothing but their index and the epoch.

    That is what lets any number of threads load them in any order, and a run that was resumed go
    on exactly as if it had not been interrupted.
    """

    def __len__(self) -> int: ...

    def example(self, index: int, epoch: int) -> Any:
        """Returns example `index` as it is seen in sweep number `epoch`."""


class Pictures:
    """The images of a list as they are in their files, for :mod:`train.compute_mean`."""

    def __init__(self, images: ImageList):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def example(self, index: int, epoch: int = 0) -> NDArray[np.uint8]:
        """Decodes image `index`.

        Returns:
            uint8, (3, H, W), red, green, blue.

        Raises:
            InputError: The image is missing or broken; names the list file and the line.
        """
        try:
            return read_rgb(self.images.paths[index])
        except MemoryError:
            raise
        # Pillow's decoders raise nearly anything on a broken file: OSError, SyntaxError,
        # ValueError, struct.error, DecompressionBombError.
        except Exception as error:
            path = self.images.paths[index]
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            where = self.images.where(index)
            raise InputError(f"{where}: cannot read the image {path!r}: {reason}") from error


class Crops(ABC):
    """Square cuts of a list's images, less the mean at the same place, times 1/255.

    Args:
        images: The images, all of the mean's size.
        mean: float32, (3, H, W).
        insize: Height and width of a cut in pixels, at most H and W.

    Raises:
        InputError: `insize` is larger than the mean.
    """

    def __init__(self, images: ImageList, mean: NDArray[np.float32], insize: int):
        height, width = mean.shape[1:]
        if insize > min(height, width):
            raise InputError(
                f"an insize of {insize} cannot be cut from images of {height}x{width}, the size of "
                f"the mean: enlarge the images and compute their mean, or take a smaller insize"
            )
        self._pictures = Pictures(images)
        self._mean = mean
        self._insize = insize

    def __len__(self) -> int:
        return len(self._pictures)

    @abstractmethod
    def window(self, index: int, epoch: int, height: int, width: int) -> tuple[int, int, bool]:
        """Returns top and left of the cut in pixels, and whether it is mirrored."""

    def example(self, index: int, epoch: int) -> tuple[NDArray[np.float32], np.int32]:
        """Returns the image and its label.

        Args:
            index: Which image of the list.
            epoch: Which sweep over the list; a random cut differs from sweep to sweep.

        Returns:
            float32, (3, insize, insize), and the label, int32.

        Raises:
            InputError: The image is missing, broken, too small, or not of the mean's size; names
                the list file and the line.
        """
        picture = self._pictures.example(index)
        self._check_size(index, picture)
        top, left, mirrored = self.window(index, epoch, *picture.shape[1:])
        cut = np.s_[:, top : top + self._insize, left : left + self._insize]
        pixels = picture[cut] - self._mean[cut]
        pixels *= np.float32(1 / 255)
        label = np.int32(self._pictures.images.labels[index])
        return pixels[:, :, ::-1] if mirrored else pixels, label

    def _check_size(self, index: int, picture: NDArray[np.uint8]) -> None:
        if picture.shape == self._mean.shape:
            return
        where = f"{self._pictures.images.where(index)}: {self._pictures.images.paths[index]!r}"
        height, width = picture.shape[1:]
        if min(height, width) < self._insize:
            raise InputError(
                f"{where} is {height}x{width}, too small for an insize of {self._insize}"
            )
        raise InputError(
            f"{where} is {height}x{width} and the mean is "
            f"{self._mean.shape[1]}x{self._mean.shape[2]}: all images must have the mean's size"
        )


class RandomCrops(Crops):
    """Cuts at a random place, every second one mirrored: what training sees.

    Place and mirroring are drawn from (`seed`, epoch, index) alone.
    """

    def __init__(self, images: ImageList, mean: NDArray[np.float32], insize: int, seed: int):
        super().__init__(images, mean, insize)
        self._seed = seed

    def window(self, index: int, epoch: int, height: int, width: int) -> tuple[int, int, bool]:
        """Draws the place from all that fit, the last row and column included."""
        random = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch, index)))
        top = random.integers(height - self._insize, endpoint=True)
        left = random.integers(width - self._insize, endpoint=True)
        return int(top), int(left), bool(random.integers(2))


class CentreCrops(Crops):
    """The middle of every image: what validation sees."""

    def window(self, index: int, epoch: int, height: int, width: int) -> tuple[int, int, bool]:
        """Returns the cut in the middle, never mirrored."""
        return (height - self._insize) // 2, (width - self._insize) // 2, False


def read_rgb(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decodes an image file.

    Grey and palette images become RGB, 16-bit grey keeps its upper 8 bits (Pillow alone would clip
    it to white), and an alpha channel is dropped.

    Args:
        path: The image file, in any format that Pillow reads.

    Returns:
        uint8, (3, H, W), red, green, blue.

    Raises:
        ValueError: The pixels are 32-bit numbers, whose range no one knows.
        Exception: Whatever Pillow raises on a missing or broken file.
    """
    with Image.open(path) as image:
        if image.mode.startswith("I;16"):
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.stack([grey, grey, grey])
        if image.mode in ("I", "F"):
            raise ValueError("its pixels are 32-bit numbers: save it with 8 or 16 bits")
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def read_mean(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Reads the mean image that :mod:`train.compute_mean` wrote.

    Args:
        path: A npy file.

    Returns:
        float32, (3, H, W).

    Raises:
        InputError: The file is missing, is no npy file, or holds something else.
    """
    try:
        mean = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the mean image: {error.strerror or error}; "
            f"train/compute_mean.py makes one, and --mean names it"
        ) from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a npy file of numbers") from error
    shape = getattr(mean, "shape", None)
    if shape is None or len(shape) != 3 or shape[0] != 3 or mean.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected a mean image of shape (3, H, W), found {shape}")
    return np.ascontiguousarray(mean, dtype=np.float32)


def broken(examples: Examples, jobs: int) -> dict[int, InputError]:
    """Reads every example once and returns what is wrong with those that cannot be used.

    Args:
        examples: The data set.
        jobs: How many threads read.

    Returns:
        The error of each unusable example, by index, in order.
    """

    def problem(index: int) -> InputError | None:
        try:
            examples.example(index, epoch=0)
        except InputError as error:
            return error
        return None

    found: dict[int, InputError] = {}
    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        for start in range(0, len(examples), _SCAN_CHUNK):
            chunk = range(start, min(start + _SCAN_CHUNK, len(examples)))
            for index, error in zip(chunk, pool.map(problem, chunk), strict=True):
                if error is not None:
                    found[index] = error
    return found
