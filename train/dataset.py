"""Images as the network sees them: decoded, cropped, less the mean, scaled."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from train.dataset_images import Images, unreadable
from train.dataset_memory import Reused
from train.dataset_open import open_images
from train.dataset_pixels import planes, read_rgb, to_rgb
from train.errors import InputError

__all__ = [
    "CentreCrops",
    "Crops",
    "Examples",
    "Pictures",
    "RandomCrops",
    "broken",
    "open_images",
    "read_mean",
    "read_rgb",
]

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
    """The images of a source as they were kept, for :mod:`train.compute_mean`."""

    def __init__(self, images: Images):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def example(self, index: int, epoch: int = 0) -> NDArray[np.uint8]:
        """Decodes image `index`.

        Returns:
            uint8, (3, H, W), red, green, blue.

        Raises:
            InputError: The image is missing or broken; names the source and the place.
        """
        with naming(self.images, index):
            image, _ = self.images.decode(index, self.images.read(index))
            return np.asarray(to_rgb(image)).transpose(2, 0, 1)


@contextmanager
def naming(images: Images, index: int) -> Iterator[None]:
    """Turns whatever a broken image raises into an error that names it."""
    try:
        yield
    except MemoryError:
        raise
    # Pillow's decoders raise nearly anything on a broken file: OSError, SyntaxError,
    # ValueError, struct.error, DecompressionBombError.
    except Exception as error:
        raise unreadable(images, index, error) from error


class Crops(ABC):
    """Square cuts of images, less the mean at the same place, times 1/255.

    Args:
        images: The images, all of the mean's size.
        mean: float32, (3, H, W); or (3, 1, 1), a mean for each colour, which fits every size.
        insize: Height and width of a cut in pixels, at most H and W.

    Raises:
        InputError: `insize` is larger than the mean.
    """

    def __init__(self, images: Images, mean: NDArray[np.float32], insize: int):
        height, width = mean.shape[1:]
        self._any_size = (height, width) == (1, 1)
        if insize > min(height, width) and not self._any_size:
            raise InputError(
                f"an insize of {insize} cannot be cut from images of {height}x{width}, the size of "
                f"the mean: enlarge the images and compute their mean, or take a smaller insize"
            )
        self._images = images
        self._mean = mean
        self._insize = insize
        self._memory = Reused(self.shape)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of every cut."""
        return 3, self._insize, self._insize

    @abstractmethod
    def window(self, index: int, epoch: int, height: int, width: int) -> tuple[int, int, bool]:
        """Returns top and left of the cut in pixels, and whether it is mirrored."""

    def example(self, index: int, epoch: int) -> tuple[NDArray[np.float32], np.int32]:
        """Returns the image and its label.

        Args:
            index: Which image.
            epoch: Which sweep over the images; a random cut differs from sweep to sweep.

        Returns:
            float32, (3, insize, insize), and the label, int32.

        Raises:
            InputError: The image is missing, broken, too small, or not of the mean's size; names
                the source and the place.
        """
        with naming(self._images, index):
            image, label = self._images.decode(index, self._images.read(index))
            width, height = image.size
            self._check_size(index, height, width)
            top, left, mirrored = self.window(index, epoch, height, width)
            bottom, right = top + self._insize, left + self._insize
            cut = planes(to_rgb(image, (left, top, right, bottom)))
        mean = self._mean if self._any_size else self._mean[:, top:bottom, left:right]
        pixels = self._memory.empty()
        for colour in range(3):
            np.subtract(cut[colour], mean[colour], out=pixels[colour])
        pixels *= np.float32(1 / 255)
        return pixels[:, :, ::-1] if mirrored else pixels, np.int32(label)

    def _check_size(self, index: int, height: int, width: int) -> None:
        if (height, width) == self._mean.shape[1:]:
            return
        where = f"{self._images.where(index)}: {self._images.called(index)}"
        if min(height, width) < self._insize:
            raise InputError(
                f"{where} is {height}x{width}, too small for an insize of {self._insize}"
            )
        if not self._any_size:
            raise InputError(
                f"{where} is {height}x{width} and the mean is "
                f"{self._mean.shape[1]}x{self._mean.shape[2]}: all images must have the mean's "
                f"size, or the mean must be one of each colour (prepare mean --per-channel)"
            )


class RandomCrops(Crops):
    """Cuts at a random place, every second one mirrored: what training sees.

    Place and mirroring are drawn from (`seed`, epoch, index) alone.
    """

    def __init__(self, images: Images, mean: NDArray[np.float32], insize: int, seed: int):
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


def read_mean(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Reads the mean image that :mod:`train.compute_mean` wrote.

    Args:
        path: A npy file.

    Returns:
        float32, (3, H, W); (3, 1, 1) where it is a mean for each colour.

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
