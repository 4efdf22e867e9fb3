"""A small network, and arrays for it."""

from __future__ import annotations

import chainer
import numpy

F = chainer.functions
L = chainer.links


def floats(*shape):
    return numpy.ones(shape, numpy.float32)


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
