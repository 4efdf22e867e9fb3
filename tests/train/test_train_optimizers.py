"""The optimizers: their defaults, the formula of the one that is ours, and weight decay."""

import chainer
import numpy as np
import pytest
from chainer import serializers

from train.choices import OPTIMIZERS
from train.optimizers import RMSpropWarmup, decay, make, set_rates


@pytest.fixture
def one():
    """A link with weights W (2, 3) and a bias b (2,), and gradients for them by seed."""
    np.random.seed(0)
    link = chainer.links.Linear(3, 2)
    link.b.array[...] = [0.5, -0.25]

    def gradients(seed):
        random = np.random.default_rng(seed)
        for parameter in link.params():
            parameter.grad = random.standard_normal(parameter.shape).astype(np.float32)

    link.draw = gradients
    return link


def arrays(link):
    return {p.name: p.array.astype(np.float64) for p in link.params()}


def test_defaults_are_those_of_the_tsubame_set_up(one):
    momentum_sgd, adam, rmsprop, warmup = (make(name, one) for name in OPTIMIZERS)
    assert (momentum_sgd.lr, momentum_sgd.momentum) == (0.01, 0.9)
    assert adam.alpha == 0.001
    assert (rmsprop.lr, rmsprop.alpha, rmsprop.eps) == (0.01, 0.99, 1e-8)
    assert (warmup.momentum, warmup.hyperparam.mu2) == (0.9, 0.99)
    assert [make(name, one, 0.5).lr for name in ("momentum_sgd", "rmsprop")] == [0.5, 0.5]


def test_the_warm_up_does_what_its_formula_says(one):
    optimizer = RMSpropWarmup(0.1, 0.9, 0.99, 1e-8, a_sgd=0.25, a_rmsprop=0.003).setup(one)
    theta = arrays(one)
    m = {name: np.zeros_like(array) for name, array in theta.items()}
    delta = {name: np.zeros_like(array) for name, array in theta.items()}
    for step in range(4):
        one.draw(step)
        for p in one.params():
            g = p.grad.astype(np.float64)
            m[p.name] = 0.99 * m[p.name] + 0.01 * g**2
            share = 0.25 + 0.003 / (np.sqrt(m[p.name]) + 1e-8)
            delta[p.name] = 0.9 * delta[p.name] - share * g
            theta[p.name] += 0.1 * delta[p.name]
        optimizer.update()
    for name, array in arrays(one).items():
        np.testing.assert_allclose(array, theta[name], rtol=1e-5)


def test_after_the_warm_up_it_is_momentum_sgd(one):
    other = one.copy(mode="copy")
    warmup, sgd = RMSpropWarmup(lr=0.1).setup(one), make("momentum_sgd", other, 0.1)
    for step in range(3):
        one.draw(step)
        for ours, theirs in zip(one.params(), other.params(), strict=True):
            theirs.grad = ours.grad.copy()
        warmup.update()
        sgd.update()
    for name, array in arrays(one).items():
        np.testing.assert_allclose(array, arrays(other)[name], rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_exactly_where_it_was_saved(one, name, in_tmp):
    def step(optimizer, seed):
        one.draw(seed)
        optimizer.update()

    optimizer = make(name, one, 0.01)
    set_rates(optimizer, {"rate": 0.01})
    step(optimizer, 1)
    serializers.save_npz("optimizer", optimizer)
    serializers.save_npz("link", one)
    step(optimizer, 2)
    expected = arrays(one)

    serializers.load_npz("link", one)
    again = make(name, one, 0.01)
    set_rates(again, {"rate": 0.01})
    serializers.load_npz("optimizer", again)
    step(again, 2)
    for key, array in arrays(one).items():
        np.testing.assert_array_equal(array, expected[key])


def moved(link, optimizer):
    """Returns how far an update without any gradient moves the parameters."""
    before = arrays(link)
    for parameter in link.params():
        parameter.grad = np.zeros_like(parameter.array)
    optimizer.update()
    return {name: array - before[name] for name, array in arrays(link).items()}, before


def test_weights_decay_by_their_size_or_by_their_sign_and_biases_only_if_asked(one):
    optimizer = make("momentum_sgd", one, 1.0)
    decay(optimizer, l2=0.1, l1=0.01, biases=False)
    by, before = moved(one, optimizer)
    expected = -0.1 * before["W"] - 0.01 * np.sign(before["W"])
    np.testing.assert_allclose(by["W"], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(by["b"], 0)

    optimizer = make("momentum_sgd", one, 1.0)
    decay(optimizer, l2=0.1)
    by, before = moved(one, optimizer)
    np.testing.assert_allclose(by["b"], -0.1 * before["b"], rtol=1e-4)


def test_an_unknown_name_is_no_optimizer(one):
    with pytest.raises(ValueError, match="sgd"):
        make("sgd", one)
