"""Values of options, as argparse takes them: what cannot be is said in a sentence."""

import argparse
import re
from collections.abc import Callable, Iterable

from train.choices import OUT_OF_CORE, nearest


def name_of(kind: str, known: Iterable[str]) -> Callable[[str], str]:
    """Returns a type that takes the known names alone and says the nearest of any other."""
    names = list(known)

    def parse_name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(nearest(kind, text, names))
        return text

    return parse_name


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Returns a type that takes whole numbers from `least` to `most`."""

    def parse_whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < least or (most is not None and number > most):
            limit = f"{least} or more" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{number}: must be {limit}")
        return number

    return parse_whole


def number(text: str) -> float:
    """Takes a number that is 0 or more."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or more")
    return value


def positive(text: str) -> float:
    """Takes a number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be above 0")
    return value


def gpu(text: str) -> int:
    """Takes a GPU's number, or -1 for none, in any spelling of Chainer's ``--device``."""
    if text == "@numpy":
        return -1
    if text.startswith(("native", "cuda")):
        raise argparse.ArgumentTypeError(f"{text!r} is ChainerX's: give the GPU's number")
    return whole(-1)(text.removeprefix("@cupy:"))


#: The spellings of the option that takes several GPUs.
GPU_OPTIONS = ("--gpu", "-g", "--gpus", "--device", "-d", "--devices")


def one_word(argv: list[str]) -> list[str]:
    """Makes one word of each option whose values could be taken for the lists that follow.

    Example:
        >>> one_word(["--gpu", "0", "1", "train.txt", "--ooc", "val.txt"])
        ['--gpu=0,1', 'train.txt', '--ooc=auto', 'val.txt']
    """
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in GPU_OPTIONS and rest:
            # Whatever comes first is its value, sense or not.
            devices = [rest.pop(0)]
            while rest and re.fullmatch(r"-?\d+|@cupy:\d+", rest[0]):
                devices.append(rest.pop(0))
            word = "--gpu=" + ",".join(devices)
        elif word == "--ooc":
            word += "=" + (rest.pop(0) if rest and rest[0] in OUT_OF_CORE else OUT_OF_CORE[0])
        words.append(word)
    return words


def gpus(text: str) -> list[int]:
    """Takes the GPUs of one machine, separated by commas; none at all if there is a -1."""
    numbers = [gpu(word) for word in text.replace(" ", ",").split(",") if word]
    if not numbers:
        raise argparse.ArgumentTypeError("name a GPU, or -1 for none")
    if -1 in numbers:
        if len(numbers) > 1:
            raise argparse.ArgumentTypeError("-1 is none: it does not go with others")
        return []
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text}: the same GPU twice")
    return numbers


def epochs(text: str) -> list[int]:
    """Takes epochs, separated by commas."""
    return [whole(1)(word) for word in text.split(",")]
