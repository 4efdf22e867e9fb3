"""The networks under a GPU's rules: what is swapped out is announced, and no bit changes."""

import chainer
import numpy as np
import pytest
from test_train_models import images, labels

import swapmem
import swapmem.chainer
from swapmem import _core
from train.models import GoogLeNet, ResNet50


def train(architecture, steps=2):
    np.random.seed(0)
    model = architecture(96, classes=5)
    optimizer = chainer.optimizers.MomentumSGD(lr=0.001)
    optimizer.setup(model)
    for step in range(steps):
        np.random.seed(step)
        optimizer.update(model, images(2, 96), labels(2, 5))
    return [parameter.array.copy() for parameter in model.params()]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [GoogLeNet, ResNet50])
def test_a_network_trains_where_no_touch_can_be_served(architecture, tmp_path, monkeypatch):
    expected = train(architecture)
    # A touch that would end all work on a GPU is a fault here, in an operation or outside.
    monkeypatch.setattr(_core, "host_engine", _core.rehearsal_engine)
    with swapmem.Manager("host", "1GiB", tmp_path, paranoid=True) as memory:
        weights = train(architecture)
    assert memory.faults() == []
    assert memory.stats()["swap_in_count"] > 100
    for one, other in zip(expected, weights, strict=True):
        np.testing.assert_array_equal(one, other)
