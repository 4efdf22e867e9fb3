"""Updates of parameters are ops too: with an engine that records."""

from __future__ import annotations

import pickle

import chainer
import numpy
import pytest
from chainer_fakes import FakeEngine, FakeManager, address

from swapmem.chainer.hooks import OpHook

F = chainer.functions
L = chainer.links
UPDATE = "MomentumSGDRule update"


def model_and_optimizer():
    model = chainer.ChainList(*(L.Linear(4, 4, nobias=True) for _ in range(7)))
    return model, chainer.optimizers.MomentumSGD().setup(model)


def step(model, optimizer):
    h = numpy.ones((2, 4), numpy.float32)
    for link in model:
        h = link(h)
    model.cleargrads()
    F.sum(h).backward()
    optimizer.update()


@pytest.fixture
def manager():
    return FakeManager()


def test_an_update_announces_parameter_gradient_and_state(manager):
    model, optimizer = model_and_optimizer()
    with OpHook(manager):
        step(model, optimizer)
    updates = [addresses for name, addresses in manager.engine.named("begin") if name == UPDATE]
    expected = [
        {address(p.array), address(p.grad), address(p.update_rule.state["v"])}
        for p in model.params()
    ]
    assert [set(addresses) for addresses in updates] == expected
    assert manager.engine.open == []


def test_an_update_fetches_what_the_next_ones_need(manager):
    model, optimizer = model_and_optimizer()
    with OpHook(manager):
        step(model, optimizer)
        manager.engine.calls.clear()
        step(model, optimizer)
    calls = manager.engine.calls
    first = next(i for i, call in enumerate(calls) if call[:2] == ("begin", UPDATE))
    parameters = list(model.params())
    expected = [
        address(array)
        for p in parameters[1:5]
        for array in (p.array, p.grad, p.update_rule.state["v"])
    ]
    assert calls[first + 1] == ("prefetch", expected)


def test_an_update_leaves_fetching_to_a_plan(manager):
    model, optimizer = model_and_optimizer()
    with OpHook(manager):
        step(model, optimizer)
        manager.engine.calls.clear()
        manager.engine.has_plan = True
        step(model, optimizer)
    assert manager.engine.named("prefetch") == []


def test_an_update_that_would_fill_the_budget_is_left_to_faults():
    engine = FakeEngine()
    model, optimizer = model_and_optimizer()
    with OpHook(FakeManager(engine, budget_bytes=5 * 64 - 1)):
        step(model, optimizer)
    assert engine.announced(UPDATE) == set()
    assert engine.open == []


def test_leaving_takes_the_hooks_away_again(manager):
    model, optimizer = model_and_optimizer()
    with OpHook(manager):
        step(model, optimizer)
    manager.engine.calls.clear()
    step(model, optimizer)
    assert manager.engine.calls == []
    for parameter in model.params():
        hookable = parameter.update_rule._hookable
        assert not hookable._pre_update_hooks
        assert not hookable._post_update_hooks


def test_a_pickled_model_carries_no_manager(manager):
    model, optimizer = model_and_optimizer()
    with OpHook(manager):
        step(model, optimizer)
        copied = pickle.loads(pickle.dumps(model))
    for one, other in zip(model.params(), copied.params(), strict=True):
        numpy.testing.assert_array_equal(one.array, other.array)


def test_an_update_that_fails_is_closed_by_the_next_op(manager):
    model, optimizer = model_and_optimizer()
    with OpHook(manager):
        step(model, optimizer)
        rule = next(iter(model.params())).update_rule
        rule.update_core = None
        with pytest.raises(TypeError):
            step(model, optimizer)
        assert manager.engine.open == [UPDATE]
        F.identity(numpy.ones(4, numpy.float32))
        assert manager.engine.open == []


def test_the_hooks_of_the_program_stay(manager):
    model, optimizer = model_and_optimizer()
    called = []
    for parameter in model.params():
        parameter.update_rule.add_hook(lambda rule, p: called.append(p), "mine")
    with OpHook(manager):
        step(model, optimizer)
        step(model, optimizer)
    step(model, optimizer)
    assert len(called) == 3 * 7
