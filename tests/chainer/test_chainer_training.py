"""Whatever a program does with Chainer, a tight budget changes no bit of what it computes."""

from __future__ import annotations

import threading

import chainer
import numpy
import pytest

import swapmem
import swapmem.chainer

F = chainer.functions
L = chainer.links

IMAGES = numpy.random.default_rng(1).standard_normal((20, 3, 32, 32)).astype(numpy.float32)
LABELS = numpy.random.default_rng(2).integers(0, 10, 20).astype(numpy.int32)
BATCH = 8


class Net(chainer.Chain):
    """Convolutions, normalization, pooling, dropout, a shortcut and branches."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.c1 = L.Convolution2D(3, 16, 3, pad=1)
            self.b1 = L.BatchNormalization(16)
            self.c2 = L.Convolution2D(16, 16, 3, pad=1)
            self.b2 = L.BatchNormalization(16)
            self.c3 = L.Convolution2D(16, 16, 3, pad=1)
            self.c4 = L.Convolution2D(16, 8, 1)
            self.c5 = L.Convolution2D(16, 8, 3, pad=1)
            self.last = L.Linear(16 * 8 * 8, 10)

    def stem(self, x):
        return F.max_pooling_2d(F.relu(self.b1(self.c1(x))), 2)

    def features(self, x):
        return self.body(self.stem(x))

    def body(self, h):
        for _ in range(4):
            h = h + F.relu(self.b2(self.c3(F.relu(self.c2(h)))))
            h = F.concat([F.relu(self.c4(h)), F.relu(self.c5(h))])
        return F.dropout(F.average_pooling_2d(h, 2))

    def forward(self, x, t):
        return F.softmax_cross_entropy(self.last(self.features(x)), t)


def new_model():
    numpy.random.seed(0)
    model = Net()
    optimizer = chainer.optimizers.MomentumSGD(lr=0.01)
    optimizer.setup(model)
    return model, optimizer


def batches(epochs=1):
    """Two full batches and a short one per epoch."""
    for _ in range(epochs):
        for start in range(0, len(IMAGES), BATCH):
            yield IMAGES[start : start + BATCH], LABELS[start : start + BATCH]


def evaluate(model):
    with chainer.no_backprop_mode(), chainer.using_config("train", False):
        return [float(model(x, t).array) for x, t in batches()]


def ordinary(model, optimizer):
    for x, t in batches(2):
        optimizer.update(model, x.copy(), t)


def with_evaluation(model, optimizer):
    losses = []
    for x, t in batches():
        optimizer.update(model, x.copy(), t)
        losses += evaluate(model)
    return losses


def with_retained_gradients(model, optimizer):
    gradients = []
    for x, t in batches():
        model.cleargrads()
        h = model.features(x.copy())
        F.softmax_cross_entropy(model.last(h), t).backward(retain_grad=True)
        gradients.append(h.grad.copy())
        optimizer.update()
    return gradients


def with_gradients_kept_apart(model, optimizer):
    with chainer.using_config("lazy_grad_sum", True):
        ordinary(model, optimizer)


def with_gradient_penalty(model, optimizer):
    for data, t in batches():
        model.cleargrads()
        x = chainer.Variable(data.copy())
        loss = F.softmax_cross_entropy(
            model.last(model.features(x)), t, enable_double_backprop=True
        )
        (gradient,) = chainer.grad([loss], [x], enable_double_backprop=True)
        (loss + 0.1 * F.sum(gradient * gradient)).backward()
        optimizer.update()


def with_accumulation(model, optimizer):
    model.cleargrads()
    for x, t in batches():
        loss = model(x.copy(), t)
        loss.backward()
        loss.backward()
    optimizer.update()


def with_forgotten_activations(model, optimizer):
    for x, t in batches():
        model.cleargrads()
        h = model.body(F.forget(model.stem, chainer.Variable(x.copy())))
        F.softmax_cross_entropy(model.last(h), t).backward()
        optimizer.update()


class Failure(Exception):
    pass


class FailingHook(chainer.FunctionHook):
    """Raises in the midst of the given operation."""

    name = "failing"

    def __init__(self, label, backward):
        self.label, self.backward = label, backward

    def forward_postprocess(self, function, in_data):
        if not self.backward and function.label == self.label:
            raise Failure

    def backward_postprocess(self, function, in_data, out_grad):
        if self.backward and function.label == self.label:
            raise Failure


def with_failures(model, optimizer):
    for x, t in batches():
        # The statistics of batch normalization advance with each attempt, in every run alike.
        for hook in (
            FailingHook("MaxPoolingND", backward=False),
            FailingHook("BatchNormalizationGrad", backward=False),
            FailingHook("Concat", backward=True),
        ):
            with pytest.raises(Failure), hook:
                optimizer.update(model, x.copy(), t)
        optimizer.update(model, x.copy(), t)


PROGRAMS = {
    function.__name__: function
    for function in (
        ordinary,
        with_evaluation,
        with_retained_gradients,
        with_gradients_kept_apart,
        with_gradient_penalty,
        with_accumulation,
        with_forgotten_activations,
        with_failures,
    )
}


def run(program, spill_dir, budget):
    """Run in a manager; returns what it leaves behind, and the manager."""
    with swapmem.Manager(device="host", device_memory=budget, spill_dir=spill_dir) as memory:
        model, optimizer = new_model()
        other = program(model, optimizer)
        assert memory.engine.op_depth() <= 1  # what the last failure left open, if any
        state = {name: p.array.tobytes() for name, p in model.namedparams()}
        state["statistics"] = model.b2.avg_var.tobytes()
        state["other"] = b"".join(numpy.asarray(part).tobytes() for part in other or ())
    assert memory.engine.op_depth() == 0
    return state, memory


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_tight_budget_changes_no_bit(name, tmp_path):
    expected, free = run(PROGRAMS[name], tmp_path, "1GiB")
    peak, largest_op = (free.stats()[key] for key in ("peak_live_bytes", "largest_op_bytes"))
    assert free.stats()["swap_out_bytes"] == 0
    budget = max(peak // 4, largest_op * 9 // 8)
    assert budget <= 0.6 * peak
    state, tight = run(PROGRAMS[name], tmp_path, budget)
    assert state == expected
    assert tight.stats()["swap_in_bytes"] > 0
    assert tight.stats()["peak_charged_bytes"] <= budget
    assert [fault for fault in tight.faults() if fault.op] == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_touch_is_announced(name, tmp_path):
    with swapmem.Manager(
        device="host", device_memory="1GiB", spill_dir=tmp_path, paranoid=True
    ) as memory:
        PROGRAMS[name](*new_model())
    assert swapmem.chainer.undeclared(memory) == []


def test_two_threads_train_at_once(tmp_path):
    """One after the other, then both in one budget; nothing of the one reaches the other."""

    def work(index):
        x, t = IMAGES[index : index + BATCH], LABELS[index : index + BATCH]
        with memory.thread():
            optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(models[index])
            with chainer.using_config("train", False):  # NumPy's random state is shared
                for _ in range(3):
                    optimizer.update(models[index], x.copy(), t)
            results[index] = [p.array.tobytes() for p in models[index].params()]

    _, free = run(ordinary, tmp_path, "1GiB")
    budget = free.stats()["largest_op_bytes"] * 9 // 4  # each thread has an op open
    outcomes = []
    for concurrent in (False, True):
        results = {}
        with swapmem.Manager(device="host", device_memory=budget, spill_dir=tmp_path) as memory:
            numpy.random.seed(0)
            models = [Net(), Net()]
            threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
            for thread in threads:
                thread.start()
                if not concurrent:
                    thread.join()
            for thread in threads:
                thread.join()
        outcomes.append(results)
    assert memory.stats()["swap_in_bytes"] > 0
    assert sorted(outcomes[0]) == [0, 1]
    assert outcomes[0] == outcomes[1]


def test_inputs_that_do_not_fit_name_the_op_and_leave_all_intact(tmp_path):
    with swapmem.Manager(device="host", device_memory="5MiB", spill_dir=tmp_path) as memory:
        arrays = [F.sin(numpy.full((512, 1024), i, numpy.float32)) for i in range(3)]
        with pytest.raises(swapmem.OutOfMemory, match="Concat") as error:
            F.concat(arrays)
        assert error.value.op == "Concat"
        assert error.value.needed_bytes > error.value.budget_bytes == 5 << 20
        for i, h in enumerate(arrays):
            assert (F.identity(h).array == numpy.sin(numpy.float32(i))).all()
        assert memory.engine.op_depth() == 0


def test_training_goes_on_after_an_op_whose_output_did_not_fit(tmp_path):
    with swapmem.Manager(device="host", device_memory="5MiB", spill_dir=tmp_path) as memory:
        h = F.identity(numpy.ones((512, 1024), numpy.float32))
        with pytest.raises(MemoryError):
            F.concat([h, h, h])
        assert (F.identity(h).array == 1).all()
        assert memory.engine.op_depth() == 0


def test_iterations_are_counted(tmp_path):
    with swapmem.Manager(device="host", device_memory="1GiB", spill_dir=tmp_path) as memory:
        ordinary(*new_model())
    assert [event.kind for event in memory.trace()].count("iteration") == 5
