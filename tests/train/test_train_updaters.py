"""One update: accumulated batches, what is drawn at random, and where epochs end."""

import chainer
import numpy as np
import pytest
from chainer import training

from train import optimizers
from train.batches import EndlessBatches, SweepBatches
from train.evaluation import Evaluation
from train.parallel import Processes
from train.updaters import Updater


class Noise:
    """Random images and labels 0, 1, 2, 0..."""

    def __init__(self, length):
        self._pixels = np.random.default_rng(length).uniform(-1, 1, (length, 3, 8, 8))

    def __len__(self):
        return len(self._pixels)

    def example(self, index, epoch):
        return self._pixels[index].astype(np.float32), np.int32(index % 3)


def updater_of(model, batch_size, accumulate=1, seed=0, length=8, processes=None):
    optimizer = optimizers.make("momentum_sgd", model, 0.1)
    batches = EndlessBatches(Noise(length), batch_size, seed=1)
    device = chainer.get_device("@numpy")
    return Updater(batches, optimizer, device, seed, accumulate, processes or Processes())


def trained(model, steps, *args, **kwargs):
    updater = updater_of(model, *args, **kwargs)
    reporter, losses = chainer.Reporter(), []
    reporter.add_observer("main", model)
    for _ in range(steps):
        with reporter:
            updater.update()
        losses.append(float(reporter.observation["main/loss"]))
    return {path: p.array.copy() for path, p in model.namedparams()}, losses


def test_accumulated_batches_are_one_batch_as_large_as_all(plain):
    model = plain()
    expected, losses = trained(model.copy(mode="copy"), 5, batch_size=6)
    found, mean_losses = trained(model.copy(mode="copy"), 5, batch_size=2, accumulate=3)
    for path, array in expected.items():
        np.testing.assert_allclose(found[path], array, rtol=1e-5, atol=1e-7, err_msg=path)
    assert mean_losses == pytest.approx(losses, rel=1e-5)


def test_an_epoch_that_ends_within_an_update_is_not_missed(plain, in_tmp):
    updater = updater_of(plain(), batch_size=3, accumulate=2, length=8)
    trainer = training.Trainer(updater, (8, "iteration"))
    fired = []
    trainer.extend(lambda t: fired.append(t.updater.iteration), name="f", trigger=(1, "epoch"))
    trainer.run()
    # Six images an update: sweeps of eight end within updates 2, 3, 4, 6, 7 and 8.
    assert fired == [2, 3, 4, 6, 7, 8]
    assert updater.get_optimizer("main").epoch == len(fired)


def test_what_an_update_draws_depends_on_seed_iteration_and_rank_alone(tiny):
    model = tiny()
    first, _ = trained(model.copy(mode="copy"), 3, batch_size=2)
    np.random.standard_normal(7)
    again, _ = trained(model.copy(mode="copy"), 3, batch_size=2)
    other_rank = Processes()
    other_rank.rank = 1
    elsewhere, _ = trained(model.copy(mode="copy"), 3, batch_size=2, processes=other_rank)
    seeded, _ = trained(model.copy(mode="copy"), 3, batch_size=2, seed=1)
    for path, array in first.items():
        np.testing.assert_array_equal(array, again[path])
    assert any(np.any(array != elsewhere[path]) for path, array in first.items())
    assert any(np.any(array != seeded[path]) for path, array in first.items())


def test_every_image_counts_the_same_in_an_evaluation(tiny):
    model = tiny()
    results = [
        Evaluation(SweepBatches(Noise(7), size), model, chainer.get_device("@numpy"))()
        for size in (7, 3, 1)
    ]
    for result in results[1:]:
        assert result.keys() == results[0].keys() == {
            "validation/main/loss", "validation/main/accuracy"
        }  # fmt: skip
        for name, value in result.items():
            assert value == pytest.approx(results[0][name], rel=1e-5)
