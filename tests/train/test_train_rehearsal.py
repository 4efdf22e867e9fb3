"""The networks out of core: on a GPU's terms and in little memory, and no bit changes."""

import chainer
import numpy as np
import pytest
from test_train_models import images, labels

import swapmem
import swapmem.chainer
from swapmem import _core
from train.models import ARCHITECTURES

pytestmark = pytest.mark.slow


def train(architecture, memory):
    insize = max(64, architecture.smallest_insize)
    with memory:
        np.random.seed(0)
        model = architecture(insize, classes=5)
        optimizer = chainer.optimizers.MomentumSGD(lr=0.001)
        optimizer.setup(model)
        for step in range(2):
            np.random.seed(step)
            optimizer.update(model, images(2, insize), labels(2, 5))
        return [parameter.array.copy() for parameter in model.params()]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def in_core(request, tmp_path_factory):
    """A network, its weights after two iterations with ample memory, and what that took."""
    architecture = ARCHITECTURES[request.param]
    memory = swapmem.Manager("host", "8GiB", tmp_path_factory.mktemp("spill"))
    weights = train(architecture, memory)
    assert memory.stats()["swap_out_count"] == 0
    return architecture, weights, memory.stats()


def assert_identical(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_trains_where_no_touch_can_be_served(in_core, tmp_path, monkeypatch):
    architecture, expected, _ = in_core
    # A touch that would end all work on a GPU is a fault here, in an operation or outside.
    monkeypatch.setattr(_core, "host_engine", _core.rehearsal_engine)
    memory = swapmem.Manager("host", "2GiB", tmp_path, paranoid=True)
    assert_identical(train(architecture, memory), expected)
    assert memory.faults() == []
    assert memory.stats()["swap_in_count"] >= 24


def test_a_network_trains_in_what_its_largest_function_needs(in_core, tmp_path):
    architecture, expected, ample = in_core
    # Updates of parameters that are too large to be held at once work in steps.
    functions = [op for op in ample["by_op"] if not op["op"].endswith(" update")]
    # The first values of a parameter are drawn in float64 and then copied.
    drawing_bytes = 3 * max(weights.nbytes for weights in expected)
    budget_bytes = max(drawing_bytes, *(op["peak_bytes"] for op in functions))
    memory = swapmem.Manager("host", budget_bytes, tmp_path)
    assert_identical(train(architecture, memory), expected)
    assert memory.stats()["peak_charged_bytes"] <= budget_bytes < ample["peak_live_bytes"] * 0.7
    assert memory.stats()["swap_in_bytes"] > 0
