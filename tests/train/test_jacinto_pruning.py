"""Pruning: which weights go, when, and that they stay away."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train  # noqa: F401  Chainer's shims come before Chainer

import chainer  # isort: skip
import chainer.functions as F  # isort: skip
import chainer.links as L  # isort: skip

from train import optimizers, snapshots
from train.jacinto.pruning import (
    Pruner,
    layers,
    pruned_share,
    small_weights,
    sparsity,
    zero_share,
)
from train.jacinto.solver import PUBLISHED, Pruning
from train.models import ARCHITECTURES
from train.trainer import Until
from train.updaters import Updater


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "groups", "share"),
    [
        (32, 32, 3, 1, 1.0),
        (64, 32, 5, 4, 1.0),
        (3, 32, 5, 1, 0.5),
        (32, 16, 3, 1, 0.5),
        (32, 31, 3, 4 - 3, 0.5),
        (31, 31, 3, 1, 0.0),
        (64, 64, 1, 1, 0.0),
        (64, 64, 2, 1, 0.0),
        (64, 64, (3, 1), 1, 0.0),
        (32, 32, 3, 32, 0.0),
    ],
)
def test_a_layer_loses_all_of_the_share_half_of_it_or_nothing(
    inputs, outputs, kernel, groups, share
):
    link = L.Convolution2D(inputs, outputs, kernel, groups=groups)
    assert pruned_share(link) == share


def test_of_jacintonet11_everything_but_the_classifier_is_pruned():
    model = ARCHITECTURES["jacintonet11"](8, 10)
    found = {name: layer for layer in sparsity(model) for name in [layer.name]}
    assert [name for name, layer in found.items() if not layer.prunable] == ["fc1000"]
    halved = [n for n, link in layers(model) if n != "fc1000" and pruned_share(link) == 0.5]
    assert halved == ["conv1a"]
    assert sum(layer.weights for layer in found.values() if layer.prunable) == 2_354_784


def by_definition(weights: np.ndarray, share: float) -> np.ndarray:
    """Tries every threshold that could be the largest."""
    small = np.zeros(weights.shape, bool)
    for channel, chosen in zip(np.abs(weights), small, strict=True):
        limit = min(0.2, 0.2 * channel.max())
        for threshold in np.unique(channel):
            if (channel <= threshold).mean() <= share + 1e-12 and threshold < limit:
                chosen |= channel <= threshold
    return small


@pytest.mark.parametrize("seed", range(20))
def test_what_is_small_is_what_the_rule_says(seed):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 6, 4))
    # Few different values, so that many are equal; some channels are small as a whole.
    weights = (random.integers(-8, 9, shape) * 0.02 * 10.0 ** random.integers(-2, 2)).astype("f")
    weights[:, 0, 0, 0] *= 4
    share = random.choice([0.0, 0.1, 0.29, 0.5, 0.8, 1.0])
    np.testing.assert_array_equal(small_weights(weights, share), by_definition(weights, share))


def test_weights_that_are_zero_count_for_the_share():
    weights = np.array([0, 0, 0, 0.01, 0.02, 1, 1, 1, 1, 1], np.float32).reshape(1, 10, 1, 1)
    assert small_weights(weights, 0.4).sum() == 4
    assert small_weights(weights, 0.3).sum() == 3
    assert small_weights(weights, 0.2).sum() == 0


def test_the_published_share_is_the_targets_after_80_steps_and_at_most_15_points_more():
    steps = [(i, PUBLISHED.pruning.share(i)) for i in range(1000, 320_001, 1000)]
    taken = [(i, share) for i, share in steps if share is not None]
    assert taken == [(40_000 + 1000 * n, pytest.approx(0.01 * n)) for n in range(96)]
    assert dict(taken)[120_000] == 0.8
    assert PUBLISHED.pruning.share(40_500) is None


@pytest.mark.parametrize(("target", "most"), [(0.5, 0.65), (0.8, 0.95), (0.9, 0.95)])
def test_a_share_goes_15_points_beyond_the_target_and_never_above_95_percent(target, most):
    pruning = Pruning(target=target, step_share=0.3, start_iteration=1, step_iterations=1)
    shares = [pruning.share(iteration) for iteration in range(1, 10)]
    assert max(share for share in shares if share is not None) == pytest.approx(most)
    assert shares[-1] is None


@pytest.mark.parametrize("iterations", [320_000, 32_000, 1200, 320, 200, 80, 8])
def test_a_shorter_run_does_everything_at_the_same_part_of_the_way(iterations):
    scaled = PUBLISHED.scaled(iterations, 64)
    pruning = scaled.pruning
    assert pruning.start_iteration == iterations // 8
    shares = {i: pruning.share(i) for i in range(1, iterations + 1)}
    taken = {i: share for i, share in shares.items() if share is not None}
    assert list(taken.values()) == sorted(taken.values())
    assert min(taken.values()) == 0
    assert max(taken.values()) == 0.95
    there = next(i for i, share in taken.items() if share >= 0.8)
    assert there == pytest.approx(0.375 * iterations, abs=pruning.step_iterations)
    assert scaled.sparse.l1**2 * iterations == pytest.approx(1e-10 * 320_000)
    assert (scaled.initial.rate, scaled.initial.l2, scaled.sparse.batch) == (0.1, 1e-4, 64)


class Small(chainer.Chain):
    """One layer that loses all of the share, one that loses half, one that loses nothing."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.wide = L.Convolution2D(32, 32, 3, pad=1)
            self.half = L.Convolution2D(32, 4, 3)
            self.fc = L.Linear(4, 2)

    def forward(self, x, t):
        h = F.relu(self.half(F.relu(self.wide(x))))
        loss = F.softmax_cross_entropy(self.fc(F.mean(h, axis=(2, 3))), t)
        chainer.report({"loss": loss}, self)
        return loss


class Noise(chainer.dataset.Iterator):
    """Batches that depend on their number alone."""

    epoch, is_new_epoch = 0, False

    def __init__(self):
        self.number = 0

    @property
    def epoch_detail(self):
        return self.number / 100

    def __next__(self):
        random = np.random.default_rng(self.number)
        self.number += 1
        x = random.normal(size=(2, 32, 5, 5)).astype("f")
        return [(image, np.int32(i)) for i, image in enumerate(x)]

    def serialize(self, serializer):
        self.number = serializer("number", self.number)


PRUNING = Pruning(target=0.6, step_share=0.1, start_iteration=4, step_iterations=2)


def make_trainer(
    iterations: int, pruning: Pruning | None = PRUNING, l1: float = 0.0, model: Small | None = None
) -> chainer.training.Trainer:
    np.random.seed(0)
    optimizer = optimizers.make("momentum_sgd", model or Small(), 0.1)
    optimizers.decay(optimizer, l1=l1)
    updater = Updater(Noise(), optimizer, chainer.get_device("@numpy"))
    trainer = chainer.training.Trainer(updater, Until(iterations, "iteration"), ".")
    trainer.extend(Pruner(optimizer.target, pruning))
    trainer.extend(snapshots.Snapshot({"test": "x"}), trigger=(1, "iteration"))
    return trainer


def model_of(trainer: chainer.training.Trainer) -> Small:
    return trainer.updater.get_optimizer("main").target


def zeros(model: Small) -> dict[str, np.ndarray]:
    return {name: link.W.array == 0 for name, link in layers(model)}


@pytest.fixture
def pruned() -> chainer.training.Trainer:
    trainer = make_trainer(18, l1=0.05)
    trainer.run()
    return trainer


def zeros_after(iterations: int, **options: Any) -> dict[str, float]:
    trainer = make_trainer(iterations, l1=0.05, **options)
    trainer.run()
    found = sparsity(model_of(trainer))
    return {layer.name: layer.zeros / layer.weights for layer in found} | {"all": zero_share(found)}


def test_steps_go_on_until_all_convolutions_together_have_the_target():
    # Update 16 brings the share of the target; the narrow layer loses half of it.
    before, after, later = (zeros_after(iterations) for iterations in (16, 18, 30))
    assert before["wide"] == pytest.approx(0.6, abs=1 / 288)
    assert before["half"] == pytest.approx(0.3, abs=1 / 288)
    assert before["all"] < PRUNING.target <= after["all"]
    assert after["wide"] == pytest.approx(0.7, abs=1 / 288)
    assert after["fc"] == 0
    assert later == after


def test_convolutions_that_lose_nothing_count_for_the_target():
    class Exempt(Small):
        """Has a convolution with a window of one pixel and as many weights as the rest."""

        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.point = L.Convolution2D(3, 4000, 1)

    found = zeros_after(30, model=Exempt())
    assert found["point"] == 0
    # The steps end at the most that a share may be.
    assert found["wide"] == pytest.approx(0.75, abs=1 / 288)


def test_what_was_removed_stays_zero_in_every_later_update(pruned):
    model = model_of(pruned)
    before = zeros(model)
    pruned.updater.get_optimizer("main").hyperparam.lr = 1.0
    values = model.wide.W.array.copy()
    for _ in range(3):
        with pruned.reporter:
            pruned.updater.update()
        pruned.get_extension("Pruner")(pruned)
    assert not np.array_equal(model.wide.W.array, values)
    for name, zero in zeros(model).items():
        np.testing.assert_array_equal(zero, before[name])


def test_a_pruned_network_that_is_loaded_stays_pruned(pruned):
    snapshots.save("pruned.npz", model_of(pruned))
    model = Small()
    snapshots.load_model("pruned.npz", model)
    trainer = make_trainer(5, pruning=None, model=model)
    trainer.run()
    for name, zero in zeros(model_of(pruned)).items():
        np.testing.assert_array_equal(zeros(model)[name], zero)


def test_a_resumed_run_prunes_as_one_that_was_not_interrupted(pruned):
    first = make_trainer(9, l1=0.05)
    first.run()
    second = make_trainer(18, l1=0.05)
    snapshots.load_trainer("snapshot_iter_9", second)
    second.run()
    for (name, one), (_, other) in zip(
        layers(model_of(pruned)), layers(model_of(second)), strict=True
    ):
        np.testing.assert_array_equal(one.W.array, other.W.array, err_msg=name)


def test_a_snapshot_knows_what_is_kept_even_where_a_kept_weight_happens_to_be_zero():
    first = make_trainer(9)
    first.run()
    model_of(first).wide.W.array[0, 0, 0, 0] = 0.0
    kept = {name: kept.copy() for name, kept in first.get_extension("Pruner")._kept.items()}
    snapshots.save("mid", first)
    second = make_trainer(16)
    snapshots.load_trainer("mid", second)
    for name, one in second.get_extension("Pruner")._kept.items():
        np.testing.assert_array_equal(one, kept[name])


def test_the_solver_is_written_as_it_is():
    Path("solver.json").write_text(json.dumps(PUBLISHED.as_dict()))
    read = json.loads(Path("solver.json").read_text())
    assert read["sparse"]["rate"] == 0.01
    assert read["pruning"]["target"] == 0.8
