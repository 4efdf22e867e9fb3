"""What a backward pass fetches ahead and gives up, and where iterations begin."""

from __future__ import annotations

import chainer
import numpy
from chainer_fakes import FakeEngine, FakeManager, address
from small_network import Branches, batch, floats

from swapmem.chainer.hooks import OpHook

F = chainer.functions


def top_level(engine):
    """The ops that are inside no other, as (name, announced, retired)."""
    ops, depth = [], 0
    for call in engine.calls:
        if call[0] == "begin":
            if depth == 0:
                ops.append([call[1], call[2], None])
            depth += 1
        elif call[0] == "end":
            depth -= 1
            if depth == 0:
                ops[-1][2] = call[2]
    return [tuple(op) for op in ops]


def test_gradients_that_chainer_adds_to_are_fetched_first(manager, engine):
    x = chainer.Parameter(floats(4))
    x.grad = floats(4)
    kept = address(x.grad)
    with OpHook(manager):
        y = F.exp(F.identity(x))
        y.grad = floats(4)
        y.backward()
    assert engine.named("prefetch")[-1][0][0] == kept
    assert kept in engine.announced("_ + _")


def test_what_a_plan_fetches_is_not_looked_for(manager, engine):
    engine.has_plan = True
    with OpHook(manager):
        Branches()(*batch()).backward()
    assert engine.named("prefetch") == []


def test_a_plan_changes_nothing_of_what_is_announced():
    """Arrays and their number, not addresses: those differ from run to run."""
    announced = []
    for has_plan in (False, True):
        engine = FakeEngine()
        engine.has_plan = has_plan
        with OpHook(FakeManager(engine)):
            model = Branches()
            optimizer = chainer.optimizers.SGD().setup(model)
            for _ in range(2):
                model.cleargrads()
                model(*batch()).backward()
                optimizer.update()
        announced.append([(name, len(addresses)) for name, addresses in engine.named("begin")])
    assert announced[0] == announced[1]
    assert "SGDRule update" in dict(announced[1])


def test_a_pass_that_leaves_its_plan_is_foreseen_from_there_on(manager, engine):
    class Leave(chainer.FunctionHook):
        def backward_postprocess(self, function, in_data, out_grad):
            engine.has_plan = False

    engine.has_plan = True
    with OpHook(manager), Leave():
        h = chainer.Variable(floats(4))
        outputs = [h := F.sigmoid(h) for _ in range(4)]
        h.grad = floats(4)
        h.backward()
    first, second, third, last = (address(y.array) for y in reversed(outputs))
    # The gradient that the next op works on is not known before.
    assert [a for (fetched,) in engine.named("prefetch") for a in fetched] == [third, last]
    retired = [blocks for name, blocks in engine.named("end") if name == "Sigmoid backward"]
    assert retired == [[], [second], [third], [last]]
    assert first in engine.announced("Sigmoid backward")


def announced_late(ops):
    """Blocks in the order in which top-level backward ops first announce them."""
    order = {}
    for name, addresses, _ in ops:
        if name.endswith(" backward"):
            order.update(dict.fromkeys(addresses))
    return list(order)


def test_a_backward_op_fetches_what_the_next_ones_need_in_their_order(manager, engine):
    with OpHook(manager):
        model = Branches()
        model(*batch()).backward()
    (first, *_) = engine.named("prefetch")
    fetched = first[0]
    ops = [op for op in top_level(engine) if op[0].endswith(" backward")]
    later = announced_late(ops[1:])
    assert [a for a in later if a in fetched] == [a for a in fetched if a in later]
    # Everything but gradients, which did not exist yet.
    gradients = {a for _, addresses, _ in ops for a in addresses} - set(fetched)
    retained = set(later) - gradients - set(ops[0][1])
    assert retained <= set(fetched)
    assert len(fetched) >= 12


def test_branches_of_equal_length_are_fetched_in_the_order_chainer_takes_them(manager, engine):
    with OpHook(manager):
        x = chainer.Variable(floats(4))
        branches = [function(F.exp(x)) for function in (F.sin, F.cos, F.tan, F.sinh, F.cosh)]
        y = F.concat([F.tanh(h) for h in branches], 0)
        y.grad = floats(*y.shape)
        y.backward()
    ((fetched,), *_) = engine.named("prefetch")
    ops = [op for op in top_level(engine) if op[0].endswith(" backward")]
    later = announced_late(ops[1:])
    assert [a for a in later if a in fetched] == [a for a in fetched if a in later]
    assert len(fetched) == 2 * 5


def test_the_gradient_that_waits_for_the_next_op_is_fetched(manager, engine):
    with OpHook(manager):
        y = F.sin(chainer.Variable(floats(4))) * F.cos(chainer.Variable(floats(4)))
        y.grad = floats(4)
        y.backward()
    ops = [op for op in top_level(engine) if op[0].endswith(" backward")]
    assert [name for name, _, _ in ops] == ["_ * _ backward", "sin backward", "cos backward"]
    calls = engine.calls
    begun = next(i for i, call in enumerate(calls) if call[:2] == ("begin", "sin backward"))
    assert calls[begun + 1][0] == "prefetch"
    # Its gradient is all that the last op needs and that did not exist when the pass began.
    assert set(calls[begun + 1][1]) & set(ops[2][1])


def test_every_pass_is_told_from_the_one_before(manager, engine):
    """Frames and functions of passes that are over leave their identities to new ones."""
    for _ in range(20):
        losses = [F.sum(F.exp(F.sin(chainer.Variable(floats(4))))) for _ in range(2)]
        with OpHook(manager):
            engine.calls.clear()
            for loss in losses:
                loss.backward()
        assert len(engine.named("prefetch")) == 2


def test_fetching_ahead_stops_at_a_share_of_the_budget():
    engine = FakeEngine()
    layer_bytes = 4096
    with OpHook(FakeManager(engine, budget_bytes=16 * layer_bytes)):
        h = chainer.Variable(floats(layer_bytes // 4))
        for _ in range(20):
            h = F.sigmoid(h)
        h.grad = floats(layer_bytes // 4)
        h.backward()
    fetched, needed, ahead = [], 0, []
    for call in engine.calls:
        if call[0] == "prefetch":
            fetched += call[1]
        elif call[0] == "begin" and call[1] == "Sigmoid backward":
            needed += 1
        elif call[0] == "end" and call[1] == "Sigmoid backward":
            ahead.append(len(fetched) + 1 - needed)
    assert len(fetched) == len(set(fetched)) == 20 - 1
    # A share of 4 layers, refilled before less than half of it is left.
    assert max(ahead) == 4
    assert min(ahead[:-2]) == 2


def test_what_could_not_be_fetched_is_asked_for_again():
    engine = FakeEngine()
    engine.memory_left = False
    with OpHook(FakeManager(engine)):
        y = F.exp(F.exp(F.exp(chainer.Variable(floats(4)))))
        y.grad = floats(4)
        y.backward()
    lengths = [len(addresses) for (addresses,) in engine.named("prefetch")]
    assert lengths == [2, 1]


def test_each_retained_block_is_given_up_by_the_last_op_that_needs_it(manager, engine):
    with OpHook(manager):
        model = Branches()
        x, t = batch()
        model(x, t).backward()
    leaves = {address(a) for a in (x, t, *(p.array for p in model.params()))}
    last, retired = {}, {}
    for position, (name, addresses, given_up) in enumerate(top_level(engine)):
        if name.endswith(" backward"):
            last.update(dict.fromkeys(addresses, position))
            assert not leaves & set(given_up)
            for block in given_up:
                assert block not in retired
                retired[block] = position
    assert len(retired) >= 8
    assert all(last[block] == position for block, position in retired.items())


def test_nothing_is_given_up_where_the_graph_goes_on(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        y = F.exp(x) * x
        y.grad = floats(4)
        y.backward(enable_double_backprop=True)
    assert all(retired == [] for _, retired in engine.named("end"))
    assert engine.named("end")


def test_an_iteration_begins_with_the_first_forward_after_a_backward(manager, engine):
    with OpHook(manager):
        model = Branches()
        for size in (2, 2, 1):
            x, t = batch()
            model.cleargrads()
            model(x[:size], t[:size]).backward()
    assert engine.names().count("iteration") == 2
    following = [
        after
        for mark, after in zip(engine.names(), engine.names()[1:], strict=False)
        if mark == "iteration"
    ]
    assert following == ["+Convolution2DFunction"] * 2


def test_adding_up_gradients_between_backward_ops_starts_no_iteration(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager), chainer.using_config("lazy_grad_sum", True):
        h = F.exp(x)
        y = F.sum(F.sin(h) + F.cos(h))
        y.backward()
    assert "iteration" not in engine.names()
    assert "+_ + _" in engine.names()[engine.names().index("-Sum backward") :]


def test_evaluation_is_forward_only(manager, engine):
    with OpHook(manager):
        model = Branches()
        with chainer.no_backprop_mode(), chainer.using_config("train", False):
            model(*batch())
            model(*batch())
    assert "iteration" not in engine.names()
    assert engine.named("prefetch") == []


def test_two_losses_and_two_backwards_of_one_graph(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        h = F.exp(x)
        a, b = F.sum(h * h), F.sum(h + h)
        a.backward()
        b.backward()
        first = x.grad.copy()
        x.cleargrad()
        a.backward()
        b.backward()
    numpy.testing.assert_array_equal(first, x.grad)
    assert engine.open == []
    assert engine.names().count("+_ * _ backward") == 2


def test_chainer_backward_of_several_outputs(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        h = F.exp(x)
        a, b = F.sum(F.sin(h)), F.sum(F.cos(h))
        a.grad, b.grad = numpy.array(1, numpy.float32), numpy.array(2, numpy.float32)
        chainer.backward([a, b])
    assert engine.open == []
    (first, *_) = engine.named("prefetch")
    assert address(h.array) in first[0]
    assert address(h.array) in engine.announced("cos backward")


def test_chainer_grad_and_double_backprop(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        y = F.exp(x) * x
        (gx,) = chainer.grad([y], [x], enable_double_backprop=True)
        F.sum(gx * gx).backward()
    expected = 2 * 2 * numpy.e * 3 * numpy.e
    numpy.testing.assert_allclose(x.grad, numpy.full(4, expected), rtol=1e-5)
    assert engine.open == []
    assert engine.announced("exp backward")


def test_retained_gradients(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        h = F.exp(x)
        F.sum(h * h).backward(retain_grad=True)
    assert h.grad is not None
    assert engine.open == []
