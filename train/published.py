"""What was published of the networks: to be shown beside our figures, never as ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Figures for a network at its published insize and 1000 classes.

    Attributes:
        gmacs: multiply-accumulates for one image, in units of 10^9; None where none are known.
        top1: share of validation images whose first guess is right, in percent.
        top5: the same for the first five guesses.
        note: what is to be said of it.
    """

    gmacs: float | None = None
    top1: float | None = None
    top5: float | None = None
    note: str = ""


#: The first three are caffe-jacinto's, accuracies included, the others of the networks' papers.
PUBLISHED = {
    "jacintonet11": Published(0.410, 60.91, 83.05),
    "resnet10": Published(0.910, 63.9, 85.2),
    "alex": Published(
        0.687, 57.1, 80.2, note="the published 0.687 leaves out the first linear layer"
    ),
    "googlenet": Published(1.5),
    "resnet50": Published(3.8),
    "resnext50": Published(4.2),
}
