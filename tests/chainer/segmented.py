"""Programs whose parts are segments, and what they compute: compared to the last bit."""

from __future__ import annotations

import random

import chainer
import numpy

from swapmem.chainer import segments
from swapmem.chainer.segments import recomputing, segment

F = chainer.functions
L = chainer.links

SHAPE = (4, 6, 5, 5)


def images(seed=0):
    return numpy.random.default_rng(seed).standard_normal(SHAPE).astype(numpy.float32)


class Part(chainer.Chain):
    """Convolution, normalization, ReLU, dropout and pooling, with a shortcut."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(6, 6, 3, pad=1)
            self.norm = L.BatchNormalization(6)
            self.last = L.Convolution2D(6, 6, 1)

    def forward(self, x):
        h = F.dropout(F.relu(self.norm(self.conv(x))), 0.3)
        h = F.max_pooling_2d(F.sigmoid(h), 3, stride=1, pad=1)
        return F.relu(self.last(h) + x)


class Net(chainer.Chain):
    """Two parts, the second of them used twice, and a branch past it."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.first = Part()
            self.second = Part()
            self.classifier = L.Linear(None, 3)

    def features(self, x):
        h = segment("first", self.first, x)
        side = F.tanh(F.tanh(h))
        y = segment("second", self.second, h)
        y = segment("again", self.second, y)
        # The gradient of h adds up in the order in which these run backward.
        return F.concat([y * h, side, F.sin(h)])

    def forward(self, x, t):
        y = self.classifier(self.features(x))
        return F.softmax_cross_entropy(y, t, enable_double_backprop=True)


def labels(seed=0):
    return numpy.random.default_rng(seed).integers(0, 3, SHAPE[0]).astype(numpy.int32)


def new_net():
    numpy.random.seed(0)
    random.seed(0)
    net = Net()
    net(images(), labels())
    return net, chainer.optimizers.MomentumSGD(lr=0.1).setup(net)


def state_of(link):
    """All that training changes, and where the generators are."""
    found = {name: p.array.tobytes() for name, p in link.namedparams()}
    found.update(
        (f"{name} gradient", p.grad.tobytes())
        for name, p in link.namedparams()
        if p.grad is not None
    )
    for path, sublink in link.namedlinks():
        for name in sublink._persistent:
            found[f"{path}/{name}"] = numpy.asarray(getattr(sublink, name)).tobytes()
    found["numpy"] = numpy.random.bytes(8)
    found["python"] = random.random()
    return found


def outcome(program, names, net=None):
    """What a program leaves behind with segments recomputed, and what it returns."""
    model, optimizer = new_net() if net is None else net()
    with recomputing(names):
        returned = program(model, optimizer)
    return state_of(model), [numpy.asarray(array).tobytes() for array in returned or ()]


class Runs(chainer.FunctionHook):
    """Notes which functions run forward."""

    name = "runs"

    def __init__(self):
        self.labels = []

    def forward_postprocess(self, function, in_data):
        self.labels.append((segments.current(), function.label))
