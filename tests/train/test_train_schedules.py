"""Learning rates: what they are at each point, and that a resumed run has the same."""

import numpy as np
import pytest

from train.optimizers import make
from train.schedules import Fixed, Poly, Rate, Step, Warmup


def test_a_polynomial_rate_falls_to_nothing_at_the_end_and_stays_there():
    line = Poly(0.1, 320_000)
    rates = [line.rates(i, 0)["rate"] for i in (0, 80_000, 160_000, 320_000, 400_000)]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0, 0])
    assert Poly(1.0, 10, power=2).rates(5, 0)["rate"] == 0.25


def test_a_stepped_rate_falls_when_its_epochs_are_over_and_not_before():
    every = Step(1.0, 0.1, every=2)
    epochs = (0, 1.99, 2, 3.5, 4)
    assert [every.rates(0, e)["rate"] for e in epochs] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    at = Step(1.0, 0.5, at=[6, 3])
    assert [at.rates(0, e)["rate"] for e in (2.9, 3, 5.9, 6, 60)] == [1, 0.5, 0.5, 0.25, 0.25]


def test_a_fixed_rate_stays():
    assert Fixed(0.3).rates(10**6, 90) == {"rate": 0.3}


def test_the_warm_up_is_continuous_and_ends_as_plain_sgd():
    warmup = Warmup(32_768)
    epochs = np.linspace(0, 20, 2001)
    points = [warmup.rates(0, e) for e in epochs]
    a_sgd = np.array([p["a_sgd"] for p in points])
    a_rmsprop = np.array([p["a_rmsprop"] for p in points])
    assert np.max(np.abs(np.diff(a_sgd))) < 0.01
    assert np.all(np.diff(a_sgd) >= 0)
    assert a_sgd[epochs == 10] == pytest.approx(0.5)
    assert np.all(a_sgd[epochs >= 12.5] == 1)
    assert np.all(a_rmsprop >= 0)
    assert np.all(a_rmsprop[epochs >= 12.5] == 0)
    # What the RMSprop part moves a weight by does not depend on the learning rate.
    assert points[0]["rate"] * points[0]["a_rmsprop"] == pytest.approx(3e-4 * (1 - a_sgd[0]))


def test_the_warm_ups_rate_grows_with_the_update_and_falls_at_40_70_and_85_epochs():
    epochs = (0, 39.9, 40, 69.9, 70, 84.9, 85)
    rates = [Warmup(512).rates(0, e)["rate"] for e in epochs]
    assert rates == pytest.approx([0.1, 0.1, 0.015, 0.015, 0.002, 0.002, 0.0002])


class At:
    """A trainer that stands at an iteration."""

    def __init__(self, optimizer, iteration):
        self.updater = self
        self.iteration = iteration
        self.epoch_detail = iteration / 10
        self._optimizer = optimizer

    def get_optimizer(self, name):
        return self._optimizer


@pytest.mark.parametrize("name", ["momentum_sgd", "adam", "rmsprop"])
def test_biases_can_have_a_rate_of_their_own_that_follows_the_schedule(tiny, name):
    model = tiny()
    optimizer = make(name, model)
    rate = Rate(Poly(0.1, 10), bias_rate=2)
    for iteration, expected in ((0, 0.1), (5, 0.05)):
        rate(At(optimizer, iteration))
        hyperparameter = "alpha" if name == "adam" else "lr"
        found = {
            path: getattr(parameter.update_rule.hyperparam, hyperparameter)
            for path, parameter in model.namedparams()
        }
        assert found["/conv/W"] == found["/norm/gamma"] == pytest.approx(expected)
        assert found["/conv/b"] == found["/norm/beta"] == pytest.approx(2 * expected)
