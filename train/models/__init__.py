"""The networks, by the names that ``--arch`` takes.

Each is a Chain made with ``(insize, classes)``, called with ``(images, labels)`` for its loss,
and has ``predict(images)`` and the attribute ``insize``: see train.models.network.
"""

from train.models.alex import Alex
from train.models.googlenet import GoogLeNet
from train.models.googlenetbn import GoogLeNetBN
from train.models.jacintonet11 import JacintoNet11
from train.models.network import Network
from train.models.nin import NIN
from train.models.resnet10 import ResNet10
from train.models.resnet50 import ResNet50
from train.models.resnext50 import ResNeXt50

ARCHITECTURES: dict[str, type[Network]] = {
    "alex": Alex,
    "nin": NIN,
    "googlenet": GoogLeNet,
    "googlenetbn": GoogLeNetBN,
    "resnet50": ResNet50,
    "resnext50": ResNeXt50,
    "resnet10": ResNet10,
    "jacintonet11": JacintoNet11,
}
