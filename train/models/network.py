"""What the networks have in common: image sizes, scores, loss and hits."""

import chainer
import chainer.functions as F
from chainer import Variable

#: How the losses of classifiers on the way count beside that of the one at the end.
_AUXILIARY_WEIGHT = 0.3


class Network(chainer.Chain):
    """Scores the classes of square images.

    Its weights have the same shapes for every `insize`. A subclass has :meth:`predict`, and gives
    its links in its constructor after this one's.

    Args:
        insize: Height and width of the images in pixels, at least :attr:`smallest_insize`.
        classes: Number of classes.

    Attributes:
        insize: As given.

    Raises:
        ValueError: `insize` is too small; names the sizes that are not.

    Example:
        >>> model = ResNet50(insize=448, classes=10)
        >>> loss = model(images, labels)  # float32 (n, 3, 448, 448), int32 (n,)
    """

    #: What the network is called where it was published.
    title: str

    #: Height and width in pixels of the images that it was published with.
    default_insize = 224

    #: Below this some layer has nothing to work on.
    smallest_insize: int

    #: What that is, for the error.
    needs: str

    def __init__(self, insize: int, classes: int):
        if insize < self.smallest_insize:
            raise ValueError(
                f"{self.title} takes images of {self.smallest_insize} x {self.smallest_insize} "
                f"pixels and every larger size, not {insize}: {self.needs}"
            )
        super().__init__()
        self.insize = insize

    def forward(self, x: Variable, t: Variable) -> Variable:
        """Returns the loss, and reports it as ``loss`` and the share of hits as ``accuracy``.

        Args:
            x: float32, (n, 3, insize, insize).
            t: int32, (n,), the classes.

        Returns:
            float32, ().
        """
        y = self.predict(x)
        return self._reported(F.softmax_cross_entropy(y, t), y, t)

    def predict(self, x: Variable) -> Variable:
        """Returns the scores of the classes, before softmax.

        Args:
            x: float32, (n, 3, insize, insize).

        Returns:
            float32, (n, classes).
        """
        raise NotImplementedError

    def _reported(self, loss: Variable, y: Variable, t: Variable) -> Variable:
        chainer.report({"loss": loss, "accuracy": F.accuracy(y, t)}, self)
        return loss


class AuxiliaryNetwork(Network):
    """One with two more classifiers on the way, which only training needs.

    A subclass has :meth:`classify` instead of :meth:`Network.predict`.
    """

    def forward(self, x: Variable, t: Variable) -> Variable:
        """Returns the loss, and reports it as ``loss`` and the share of hits as ``accuracy``.

        Args:
            x: float32, (n, 3, insize, insize).
            t: int32, (n,), the classes.

        Returns:
            float32, (): the main classifier's loss plus 0.3 times the auxiliary ones'.
        """
        y, y1, y2 = self.classify(x)
        auxiliary = F.softmax_cross_entropy(y1, t) + F.softmax_cross_entropy(y2, t)
        loss = _AUXILIARY_WEIGHT * auxiliary + F.softmax_cross_entropy(y, t)
        return self._reported(loss, y, t)

    def predict(self, x: Variable) -> Variable:
        """Returns the main classifier's scores, before softmax.

        Args:
            x: float32, (n, 3, insize, insize).

        Returns:
            float32, (n, classes).
        """
        return self.classify(x)[0]

    def classify(self, x: Variable) -> tuple[Variable, Variable, Variable]:
        """Returns the scores of the main classifier, and of the two on the way.

        Args:
            x: float32, (n, 3, insize, insize).

        Returns:
            Three of float32, (n, classes), before softmax.
        """
        raise NotImplementedError
