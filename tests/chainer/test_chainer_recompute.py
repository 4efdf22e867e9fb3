"""Whatever a program does with segments that are recomputed, it computes the same bits."""

from __future__ import annotations

import chainer
import numpy
import pytest
from segmented import Net, Runs, images, labels, outcome

from swapmem.chainer.segments import recomputing, segment

F = chainer.functions
L = chainer.links

CHOICES = [{"first"}, {"second"}, {"again"}, {"second", "again"}, {"first", "second", "again"}]


def ordinary(model, optimizer):
    for seed in range(3):
        optimizer.update(model, images(seed), labels(seed))


def evaluated_in_between(model, optimizer):
    losses = []
    for seed in range(2):
        optimizer.update(model, images(seed), labels(seed))
        with chainer.no_backprop_mode(), chainer.using_config("train", False):
            losses.append(model(images(9), labels(9)).array)
    return losses


def several_losses(model, optimizer):
    model.cleargrads()
    h = model.features(chainer.Variable(images()))
    a, b = F.sum(F.sin(h)), F.mean(h * h)
    a.grad, b.grad = numpy.array(1, numpy.float32), numpy.array(2, numpy.float32)
    chainer.backward([a, b])
    optimizer.update()


def one_loss_after_the_other(model, optimizer):
    model.cleargrads()
    h = model.features(images())
    a, b = F.sum(F.sin(h)), F.mean(h * h)
    a.backward()
    b.backward()
    optimizer.update()


def backward_twice(model, optimizer):
    model.cleargrads()
    loss = model(images(), labels())
    loss.backward()
    loss.backward()
    optimizer.update()


def retained_gradients(model, optimizer):
    model.cleargrads()
    x = chainer.Variable(images())
    h = model.features(x)
    F.sum(h * h).backward(retain_grad=True)
    optimizer.update()
    return [h.grad, x.grad]


def gradients_kept_apart(model, optimizer):
    with chainer.using_config("lazy_grad_sum", True):
        ordinary(model, optimizer)


def partial_gradient(model, optimizer):
    x = chainer.Variable(images())
    h = model.features(x)
    gradients = chainer.grad([F.sum(h)], [x, model.second.conv.W])
    model.cleargrads()
    F.sum(h * h).backward()
    optimizer.update()
    return [gradient.array for gradient in gradients]


def gradient_penalty(model, optimizer):
    for seed in range(2):
        model.cleargrads()
        x = chainer.Variable(images(seed))
        loss = model(x, labels(seed))
        (gradient,) = chainer.grad([loss], [x], enable_double_backprop=True)
        (loss + 0.1 * F.sum(gradient * gradient)).backward()
        optimizer.update()


def penalty_of_all_gradients(model, optimizer):
    model.cleargrads()
    loss = model(images(), labels())
    loss.backward(enable_double_backprop=True)
    gradients = [p.grad_var for p in model.params() if p.grad_var is not None]
    model.cleargrads()
    sum(F.sum(g * g) for g in gradients).backward()
    optimizer.update()


def forgotten(model, optimizer):
    for seed in range(2):
        model.cleargrads()
        with chainer.using_config("train", False):  # F.forget draws dropout anew
            h = F.forget(model.features, chainer.Variable(images(seed)))
        with chainer.using_config("train", False):
            F.softmax_cross_entropy(model.classifier(h), labels(seed)).backward()
        optimizer.update()


def cut_off(model, optimizer):
    model.cleargrads()
    h = segment("first", model.first, images())
    h.unchain_backward()
    h = segment("second", model.second, h)
    F.softmax_cross_entropy(model.classifier(F.concat([h, h, h])), labels()).backward()
    optimizer.update()


def half_configured(model, optimizer):
    """Forward in a configuration that is another by the time of backward."""
    model.cleargrads()
    with chainer.using_config("train", False), chainer.using_config("dtype", numpy.float16):
        loss = model(images(), labels())
    loss.backward()
    optimizer.update()


PROGRAMS = [
    ordinary,
    evaluated_in_between,
    several_losses,
    one_loss_after_the_other,
    backward_twice,
    retained_gradients,
    gradients_kept_apart,
    partial_gradient,
    gradient_penalty,
    penalty_of_all_gradients,
    forgotten,
    cut_off,
    half_configured,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_recomputing_changes_no_bit(program):
    expected = outcome(program, ())
    assert outcome(program, ()) == expected
    for names in CHOICES:
        assert outcome(program, names) == expected, names


def forward_in_backward(names):
    numpy.random.seed(0)
    model = Net()
    with recomputing(names):
        loss = model(images(), labels())
    model.cleargrads()
    with Runs() as runs:
        loss.backward()
    return [(name, label) for name, label in runs.labels if name is not None]


def test_a_segment_runs_again_only_as_far_as_backward_needs():
    assert forward_in_backward({"first"}) == [
        ("first", "Convolution2DFunction"),
        ("first", "BatchNormalization"),
        ("first", "ReLU"),
        ("first", "Dropout"),
        ("first", "Sigmoid"),
        ("first", "MaxPoolingND"),
    ]


def test_segments_run_again_in_the_order_of_backward():
    names = list(dict.fromkeys(name for name, _ in forward_in_backward({"first", "again"})))
    assert names == ["again", "first"]
    assert forward_in_backward(()) == []


def test_a_segment_runs_once_more_in_each_backward_pass_and_not_more():
    x = chainer.Variable(images())
    with recomputing({"part"}):
        y = F.sum(segment("part", lambda h: F.sin(F.exp(h)), x))
    for _ in range(2):
        with Runs() as runs:
            y.backward()
        # What the last operation of the segment needs is made by the first.
        assert [label for name, label in runs.labels if name] == ["exp"]


def test_arguments_and_results_can_be_many():
    def part(pair, factor):
        a, (b, c) = pair
        h = F.exp(a) * factor + 0.5
        return F.sin(h) * b, [F.cos(h), F.tanh(h) + c]

    gradients = []
    for names in ((), {"part"}):
        a, b, c = (chainer.Variable(images(seed)) for seed in range(3))
        with recomputing(names):
            p, (q, r) = segment("part", part, (a, [b, c]), images(3))
        F.sum(p * q + r * q).backward()
        gradients.append([a.grad, b.grad, c.grad])
    numpy.testing.assert_array_equal(*gradients)


def test_variables_that_a_function_finds_by_itself_get_their_gradients():
    x, other = chainer.Variable(images(0)), chainer.Variable(images(1))
    shared = F.exp(other)
    gradients = []
    for names in ((), {"part"}):
        with recomputing(names):
            y = segment("part", lambda h: F.sin(F.exp(h) * shared), x)
        x.cleargrad()
        other.cleargrad()
        F.sum(y * shared).backward()
        gradients.append([x.grad, other.grad])
    numpy.testing.assert_array_equal(*gradients)
