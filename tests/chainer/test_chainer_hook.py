"""What the hook announces, in which order, and how it recovers: with an engine that records."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy
import pytest
from chainer_fakes import FakeEngine, FakeManager, address

import swapmem.chainer  # noqa: F401 - Chainer cannot be imported without it
from swapmem import adapters

chainer = pytest.importorskip("chainer")
from swapmem.chainer.hooks import OpHook  # noqa: E402

F = chainer.functions
L = chainer.links


def floats(*shape):
    return numpy.ones(shape, numpy.float32)


@pytest.fixture
def manager():
    return FakeManager()


@pytest.fixture
def engine(manager):
    return manager.engine


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


class Branches(chainer.Chain):
    """A small network with a shortcut, normalization, pooling, dropout and a linear layer."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.first = L.Convolution2D(3, 4, 3, pad=1)
            self.norm = L.BatchNormalization(4)
            self.second = L.Convolution2D(4, 4, 3, pad=1)
            self.last = L.Linear(4 * 4 * 4, 5)

    def forward(self, x, t):
        h = F.relu(self.norm(self.first(x)))
        h = h + F.relu(self.second(h))
        h = F.dropout(F.max_pooling_2d(h, 2))
        return F.softmax_cross_entropy(self.last(h), t)


def batch():
    return floats(2, 3, 8, 8), numpy.zeros(2, numpy.int32)


def test_every_op_ends_and_those_inside_another_end_before_it(manager, engine):
    with OpHook(manager):
        model = Branches()
        model(*batch()).backward()
    open_ops = []
    for name in engine.names():
        if name.startswith("+"):
            open_ops.append(name[1:])
        else:
            assert name == "-" + open_ops.pop()
    assert open_ops == []
    assert "BatchNormalization" in {name for name, _ in engine.named("begin")}
    assert "BatchNormalization backward" in {name for name, _ in engine.named("begin")}


def test_nothing_is_announced_before_and_after_the_context(manager, engine):
    F.relu(floats(3))
    with OpHook(manager):
        pass
    F.relu(floats(3))
    assert engine.names() == []


def test_forward_announces_the_whole_array_behind_each_input(manager, engine):
    a, b, c = floats(8, 8), floats(8, 8), floats(1, 8)
    views = (
        a[::-1, 3:],
        numpy.lib.stride_tricks.as_strided(b, (2, 2)),
        numpy.broadcast_to(c, (8, 8)),
    )
    with OpHook(manager):
        for view in views:
            F.identity(view)
    assert engine.announced("Identity") == {address(array) for array in (a, b, c)}


def test_an_empty_array_of_its_own_is_not_announced(manager, engine):
    with OpHook(manager):
        F.identity(floats(8, 8)[8:][::-1])
        F.identity(floats(0))
    # A view of nothing still belongs to its array.
    assert [len(addresses) for _, addresses in engine.named("begin")] == [1, 0]


def test_arrays_too_small_to_be_blocks_are_not_announced():
    manager = FakeManager(FakeEngine(min_block_bytes=1024))
    large, small = floats(256), floats(255)
    with OpHook(manager):
        F.identity(large)
        F.identity(small)
        F.identity(large[:2])
    assert [len(addresses) for _, addresses in manager.engine.named("begin")] == [1, 0, 1]


class Keeper(chainer.Function):
    """An old-style function that keeps arrays in all sorts of places."""

    def __init__(self, kept):
        self.kept = kept
        self.cycle = {"self": self}

    def forward(self, inputs):
        self.late = {"deep": [(inputs[0] * 2,)]}
        return (inputs[0] + 1,)

    def backward(self, inputs, gradients):
        return gradients


class Holder:
    def __init__(self, array):
        self.array = array


def test_arrays_in_attributes_of_an_old_style_function_are_announced(manager, engine):
    arrays = [floats(4) for _ in range(6)]
    kept = [arrays[0], (arrays[1], None), {"a": arrays[2]}, Holder(arrays[3])]
    kept += [chainer.Variable(arrays[4]), {"s": [arrays[5]]}]
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        function = Keeper(kept)
        y = function(x)
        F.sum(y).backward()
    expected = {address(array) for array in arrays}
    assert engine.announced("Keeper") == expected | {address(x.array)}
    late = address(function.late["deep"][0][0])
    assert engine.announced("Keeper backward") >= expected | {late, address(x.array)}


def test_backward_announces_what_the_function_keeps_and_its_gradients(manager, engine):
    x = chainer.Variable(floats(2, 4, 8, 8))
    with OpHook(manager):
        pooled = F.max_pooling_2d(x, 2)
        y = F.dropout(pooled)
        y.grad = floats(*y.shape)
        gradient = address(y.grad)
        y.backward()
    pooling, dropout = pooled.creator_node, y.creator_node
    assert engine.announced("Dropout backward") == {gradient, address(dropout.mask)}
    assert address(pooling.indexes) in engine.announced("MaxPoolingND backward")


def test_backward_announces_retained_inputs_and_outputs(manager, engine):
    x, w = chainer.Variable(floats(2, 3)), chainer.Parameter(floats(4, 3))
    with OpHook(manager):
        y = F.sigmoid(F.linear(x, w))
        y.grad = floats(2, 4)
        y.backward()
    assert {address(x.array), address(w.array)} <= engine.announced("LinearFunction backward")
    assert address(y.array) in engine.announced("Sigmoid backward")


def test_backward_does_not_announce_inputs_that_only_others_retained(manager, engine):
    a, b = chainer.Variable(floats(4)), chainer.Variable(floats(4))
    with OpHook(manager):
        y = a + b
        z = a * b  # retains both
        y.grad, z.grad = floats(4), floats(4)
        gradient = address(y.grad)
        y.backward()
    assert engine.announced("_ + _ backward") == {gradient}


class Accumulating(chainer.FunctionNode):
    """Adds to the gradient of its input by itself."""

    def forward(self, inputs):
        return (inputs[0].copy(),)

    def backward_accumulate(self, indexes, grad_outputs, grad_inputs):
        (gradient,), (accumulated,) = grad_outputs, grad_inputs
        if accumulated is None:
            return (gradient,)
        return (chainer.Variable(gradient.array + accumulated.array),)


@pytest.mark.parametrize("lazy", [False, True])
def test_gradients_that_a_function_adds_to_are_announced(manager, engine, lazy):
    x = chainer.Variable(floats(4))
    x.grad = floats(4)
    kept = address(x.grad)
    with OpHook(manager), chainer.using_config("lazy_grad_sum", lazy):
        (y,) = Accumulating().apply((x,))
        y.grad = floats(4)
        y.backward()
    assert kept in engine.announced("Accumulating backward")
    numpy.testing.assert_array_equal(x.grad, [2, 2, 2, 2])


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


def test_fetching_ahead_stops_at_a_share_of_the_budget():
    engine = FakeEngine()
    layer_bytes = 4096
    with OpHook(FakeManager(engine, budget_bytes=16 * layer_bytes)):
        h = chainer.Variable(floats(layer_bytes // 4))
        for _ in range(20):
            h = F.exp(h)
        h.grad = floats(layer_bytes // 4)
        h.backward()
    lengths = [len(addresses) for (addresses,) in engine.named("prefetch")]
    assert lengths[0] == 4
    assert set(lengths[1:]) == {1}
    assert len(lengths) == 17 - 1


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


class Failing(chainer.FunctionNode):
    def __init__(self, *, forward=False, backward=False):
        self.fail_forward, self.fail_backward = forward, backward

    def forward(self, inputs):
        if self.fail_forward:
            raise ValueError("forward")
        return (inputs[0] * 2,)

    def backward(self, indexes, gradients):
        doubled = gradients[0] * 2
        if self.fail_backward:
            Failing(forward=True).apply((doubled,))
        return (doubled,)


def test_the_next_op_closes_what_a_failed_forward_left_open(manager, engine):
    with OpHook(manager):
        with pytest.raises(ValueError, match="forward"):
            Failing(forward=True).apply((floats(4),))
        assert engine.open == ["Failing"]
        F.identity(floats(4))
        assert engine.open == []
    assert engine.names() == ["+Failing", "!Failing", "+Identity", "-Identity"]


def test_the_next_op_closes_what_a_failed_backward_left_open(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        (y,) = Failing(backward=True).apply((x,))
        with pytest.raises(ValueError, match="forward"):
            F.sum(y).backward()
        assert engine.open == ["Failing backward", "Failing"]
        F.sum(F.exp(x)).backward()
        assert engine.open == []
    assert engine.names().count("iteration") == 1


def test_leaving_closes_what_an_exception_left_open_and_nothing_else(manager, engine):
    engine.begin_op("the user's own", [])
    hook = OpHook(manager)
    with pytest.raises(ValueError, match="forward"), hook:
        Failing(forward=True).apply((floats(4),))
    assert engine.open == ["the user's own"]


class Forgiving(chainer.FunctionNode):
    """Runs other functions inside its own forward, one of which fails."""

    def forward(self, inputs):
        try:
            F.identity(Failing(forward=True).apply(inputs)[0])
        except ValueError:
            return (F.identity(inputs[0]).array,) if self.goes_on else (inputs[0],)

    def __init__(self, *, goes_on):
        self.goes_on = goes_on


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_op_that_survives_a_failure_inside_it_stays_open(manager, engine, goes_on):
    with OpHook(manager):
        Forgiving(goes_on=goes_on).apply((floats(4),))
    inside = ["+Identity", "-Identity"] if goes_on else []
    expected = ["+Forgiving", "+Failing", "!Failing", *inside, "-Forgiving"]
    assert engine.names() == expected


def test_an_op_that_does_not_fit_leaves_nothing_open(manager, engine):
    engine.refuse = {"exp"}
    with OpHook(manager):
        with pytest.raises(MemoryError):
            F.exp(floats(4))
        F.identity(floats(4))
    assert engine.names() == ["+Identity", "-Identity"]


def test_a_hook_that_calls_this_one_changes_nothing(manager, engine):
    inner = OpHook(manager)

    class Outer(chainer.FunctionHook):
        name = "outer"

        def added(self, function):
            inner.added(function)

        def forward_preprocess(self, function, in_data):
            inner.forward_preprocess(function, in_data)

        def forward_postprocess(self, function, in_data):
            inner.forward_postprocess(function, in_data)

        def backward_preprocess(self, function, in_data, out_grad):
            inner.backward_preprocess(function, in_data, out_grad)

        def backward_postprocess(self, function, in_data, out_grad):
            inner.backward_postprocess(function, in_data, out_grad)

    with Outer():
        model = Branches()
        model(*batch()).backward()
    assert not any(name.startswith("!") for name in engine.names())
    assert engine.named("prefetch")


def test_two_managers_at_once_are_both_told(manager, engine):
    other = FakeManager()
    with OpHook(manager), OpHook(other):
        F.identity(floats(4))
    assert engine.names() == other.engine.names() == ["+Identity", "-Identity"]


def test_a_thread_that_takes_part_twice_announces_once(manager, engine):
    with OpHook(manager):
        with OpHook(manager):
            F.identity(floats(4))
        F.identity(floats(4))
    F.identity(floats(4))
    assert engine.names() == ["+Identity", "-Identity"] * 2


def test_a_hook_belongs_to_the_thread_that_entered_it(manager, engine):
    with OpHook(manager):
        thread = threading.Thread(target=lambda: F.identity(floats(4)))
        thread.start()
        thread.join()
    assert engine.names() == []


def test_entering_within_an_op_ignores_the_end_of_that_op(manager, engine):
    hook = OpHook(manager)

    class Entering(chainer.FunctionNode):
        def forward(self, inputs):
            hook.__enter__()
            return inputs

    Entering().apply((floats(4),))
    F.identity(floats(4))
    hook.__exit__()
    assert engine.names() == ["+Identity", "-Identity"]


def test_nothing_lives_longer_because_of_the_hook(manager):
    """Without a garbage collection the graph and its arrays are gone where Chainer lets go."""
    with OpHook(manager):
        x = chainer.Variable(floats(64))
        h = F.exp(x)
        array = weakref.ref(h.array)
        y = F.sum(h * h)
        node = weakref.ref(y.creator_node)
        gc.collect()
        gc.disable()
        try:
            y.backward()
            del h, y
            assert array() is None
            assert node() is None
        finally:
            gc.enable()


class GradientWatcher(chainer.FunctionHook):
    """Whether the gradient that a pass meets first is gone when the last op begins."""

    name = "gradient watcher"
    first = None
    gone = None

    def backward_preprocess(self, function, in_data, out_grad):
        if function.label == "sin":
            self.first = weakref.ref(out_grad[0])
        elif function.label == "exp":
            self.gone = self.first() is None


def test_gradients_are_freed_during_the_backward_pass(manager):
    watcher = GradientWatcher()
    with OpHook(manager), watcher:
        x = chainer.Variable(floats(64))
        h = F.exp(x)
        # Chainer makes the first gradient itself, and nobody else holds it.
        chainer.grad([F.sin(F.cos(h)), h], [x])
    assert watcher.gone


def test_the_adapter_is_registered_once():
    class Manager(FakeManager):
        paranoid = False

        def faults(self):
            return []

    contexts = adapters.contexts(Manager())
    assert [type(context) for context in contexts].count(OpHook) == 1


def test_registering_twice_changes_nothing(monkeypatch):
    monkeypatch.setattr(adapters, "_factories", [])
    made = []
    adapters.register(made.append)
    adapters.register(made.append)
    adapters.contexts("the manager")
    assert made == ["the manager"]
