"""The networks, by the names that ``--arch`` takes.

Each is a Chain made with ``(insize, classes)``, called with ``(images, labels)`` for its loss,
and has ``predict(images)`` and the attribute ``insize``.
"""

from train.models.googlenet import GoogLeNet
from train.models.jacintonet11 import JacintoNet11
from train.models.resnet50 import ResNet50

ARCHITECTURES = {
    "googlenet": GoogLeNet,
    "resnet50": ResNet50,
    "jacintonet11": JacintoNet11,
}
