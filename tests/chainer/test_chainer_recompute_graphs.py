"""Networks of any shape, cut into any segments: recomputing changes no bit of any gradient."""

from __future__ import annotations

import random

import chainer
import numpy
import pytest

from swapmem.chainer.segments import recomputing, segment

F = chainer.functions
L = chainer.links

SHAPE = (3, 4, 4, 4)


class RandomNet(chainer.Chain):
    """Segments of random functions of what earlier segments made; links are shared at random."""

    def __init__(self, pick):
        super().__init__()
        with self.init_scope():
            self.convs = chainer.ChainList(*(L.Convolution2D(4, 4, 3, pad=1) for _ in range(3)))
            self.norms = chainer.ChainList(*(L.BatchNormalization(4) for _ in range(2)))
        self.parts = []
        for made in range(1, pick.randint(3, 8)):
            reads = [pick.randrange(made) for _ in range(pick.choice([1, 1, 2, 3]))]
            steps = [self._step(pick) for _ in range(pick.randint(1, 6))]
            self.parts.append((f"part {made}", reads, steps))
        self.last = [pick.randrange(len(self.parts) + 1) for _ in range(3)]

    def _step(self, pick):
        conv, norm = pick.choice(list(self.convs)), pick.choice(list(self.norms))
        unary = pick.choice(
            [
                conv,
                norm,
                F.relu,
                F.sigmoid,
                F.exp,
                lambda h: F.dropout(h, 0.4),
                lambda h: F.max_pooling_2d(h, 3, 1, 1),
                lambda h: F.local_response_normalization(h),
                lambda h: F.average_pooling_2d(h, 3, 1, 1),
                lambda h: h.reshape(SHAPE),
            ]
        )
        # Where it reads, counted from the end, and what it is combined with.
        return unary, pick.randint(1, 3), pick.choice([None, None, F.add, lambda a, b: a * b])

    def _part(self, steps, *inputs):
        found = list(inputs)
        for unary, back, binary in steps:
            h = F.tanh(unary(found[-min(back, len(found))]))
            found.append(h if binary is None else binary(h, found[0]))
        return found[-1]

    def forward(self, x):
        found = [x]
        for name, reads, steps in self.parts:
            inputs = [found[i] for i in reads]
            found.append(segment(name, self._part, steps, *inputs))
        return F.sum(F.concat([F.sin(found[i]) for i in (*self.last, -1)]))


def outcome(seed, names):
    """Two iterations; returns every bit of parameters, gradients and statistics."""
    numpy.random.seed(seed)
    net = RandomNet(random.Random(seed))
    optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(net)
    found = []
    for iteration in range(2):
        values = numpy.random.default_rng([seed, iteration]).standard_normal(SHAPE)
        x = chainer.Variable(values.astype(numpy.float32))
        net.cleargrads()
        with recomputing(names):
            loss = net(x)
        loss.backward()
        optimizer.update()
        found.append(x.grad.tobytes())
        found += [p.array.tobytes() for p in net.params()]
        found += [p.grad.tobytes() for p in net.params() if p.grad is not None]
        found += [norm.avg_var.tobytes() for norm in net.norms]
        found.append(numpy.random.bytes(4))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_any_segments_of_any_network_can_be_recomputed(seed):
    print("seed", seed)
    pick = random.Random(seed)
    expected = outcome(seed, ())
    names = [f"part {number}" for number in range(1, 9)]
    assert outcome(seed, names) == expected
    for _ in range(2):
        some = {name for name in names if pick.random() < 0.5}
        assert outcome(seed, some) == expected, some
