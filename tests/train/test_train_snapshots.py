"""Snapshots: whole or not at all, no other run's, and none that is damaged."""

import io
import os
import sys
import warnings
import zipfile

import chainer
import numpy as np
import pytest
from chainer import serializers

from swapmem.files import replacing
from train import optimizers, snapshots
from train.batches import EndlessBatches, SweepBatches
from train.errors import InputError
from train.schedules import Fixed
from train.snapshots import load_model, load_trainer, newest, save
from train.trainer import Recipe, Until, make_trainer


class Zeros:
    """A data set of nothing but zeros."""

    def __len__(self):
        return 4

    def example(self, index, epoch):
        return np.zeros((3, 8, 8), np.float32), np.int32(index % 3)


@pytest.fixture
def trainer_of(tiny, in_tmp):
    def make(iterations, out="result", n_retains=0, classes=3, **identity):
        (in_tmp / out).mkdir(exist_ok=True)
        return make_trainer(
            optimizers.make("momentum_sgd", tiny(8, classes)),
            batches_of_zeros(endless=True),
            batches_of_zeros(endless=False),
            Recipe(
                Until(iterations, "iteration"), Fixed(0.01), (1, "iteration"),
                log_every=(1, "iteration"), n_retains=n_retains,
            ),
            out,
            {"arch": "tiny", "classes": classes, **identity},
            chainer.get_device("@numpy"),
        )  # fmt: skip

    return make


def batches_of_zeros(endless):
    return EndlessBatches(Zeros(), 2, seed=0) if endless else SweepBatches(Zeros(), 2)


def written(directory):
    return {name for name in os.listdir(directory) if name.startswith("snapshot")}


def arrays_of(model):
    return {name: np.array(array) for name, array in serializers.npz.serialize(model).items()}


def assert_same(model, arrays):
    now = serializers.npz.serialize(model)
    assert now.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(now[name], array)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tiny, in_tmp, monkeypatch):
    save("model", tiny())
    before = (in_tmp / "model").read_bytes()

    def full_disk(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots.np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save("model", tiny())
    assert os.listdir() == ["model"]
    assert (in_tmp / "model").read_bytes() == before


def test_a_file_that_is_replaced_has_the_permissions_of_a_new_one(in_tmp):
    mask = os.umask(0o027)
    try:
        with replacing("file") as file:
            file.write(b"new")
    finally:
        os.umask(mask)
    assert os.stat("file").st_mode & 0o777 == 0o640


def test_a_model_comes_back_whole(tiny):
    model = tiny()
    save("model", model)
    other = tiny()
    load_model("model", other)
    assert_same(other, arrays_of(model))


def test_a_model_that_chainer_saved_or_a_trainers_snapshot_is_taken_too(tiny, trainer_of):
    model = tiny()
    serializers.save_npz("chainers", model)
    other = tiny()
    load_model("chainers", other)
    assert_same(other, arrays_of(model))

    trainer = trainer_of(1)
    trainer.run()
    load_model("result/snapshot_iter_1", other)
    assert_same(other, arrays_of(trainer.updater.get_optimizer("main").target))


def test_a_foreign_model_is_refused_and_nothing_is_loaded(tiny):
    model = tiny()
    before = arrays_of(model)
    save("classes", tiny(classes=4))
    save("lacking", {"conv/W": np.zeros((4, 3, 3, 3), np.float32)})
    save("surplus", {**arrays_of(tiny()), "other/W": np.zeros(1)})
    # Chainer would broadcast it without a word.
    save("scalar", {**arrays_of(tiny()), "conv/W": np.float32(1)})
    for name, message in {
        "classes": r"classes: not this Tiny: 'classifier/W' has shape \(4, 4\), .* \(3, 4\)",
        "lacking": r"lacking: not a Tiny: it lacks 'classifier/W'",
        "surplus": r"surplus: not a Tiny: no part of it is called 'other/W'",
        "scalar": r"scalar: not this Tiny: 'conv/W' has shape \(\), .* \(4, 3, 3, 3\)",
    }.items():
        with pytest.raises(InputError, match=message):
            load_model(name, model)
        assert_same(model, before)


def test_a_file_that_is_no_npz_is_refused(tiny, in_tmp):
    (in_tmp / "text").write_text("no archive")
    (in_tmp / "empty").touch()
    np.save("array.npy", np.zeros(3))
    with pytest.raises(InputError, match="absent: cannot be read: No such file"):
        load_model("absent", tiny())
    for name in ("text", "empty", "array.npy"):
        with pytest.raises(InputError, match=f"{name}: damaged, or no npz file at all"):
            load_model(name, tiny())


def test_loading_runs_no_code_that_a_file_carries(tiny):
    class Trap:
        def __reduce__(self):
            return os.mkdir, ("sprung",)

    arrays = arrays_of(tiny())
    trap = np.empty((), dtype=object)
    trap[()] = Trap()
    np.savez("trap.npz", **{**arrays, "conv/W": trap})
    with pytest.raises(InputError, match="trap.npz"):
        load_model("trap.npz", tiny())
    assert not os.path.exists("sprung")


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_refused_or_harmless(tiny, in_tmp, seed):
    random = np.random.default_rng(seed)
    model = tiny()
    save("model", model)
    whole = (in_tmp / "model").read_bytes()
    refused = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 4)):
            damaged[place] ^= 1 << random.integers(8)
        if random.integers(4) == 0:
            del damaged[random.integers(len(whole)) :]
        (in_tmp / "damaged").write_bytes(damaged)
        other = tiny()
        before = arrays_of(other)
        try:
            load_model("damaged", other)
        except InputError:
            refused += 1
            assert_same(other, before)
        else:
            assert_same(other, arrays_of(model))  # a time stamp or padding was hit
    assert refused > 30


def test_only_the_newest_snapshots_of_this_run_are_kept(trainer_of, in_tmp):
    foreign = {"snapshot_iter_900", "snapshot_iter_2.bak", "snapshot_iter_old"}
    (in_tmp / "result").mkdir()
    for name in foreign:
        (in_tmp / "result" / name).touch()
    trainer_of(5, n_retains=2).run()
    assert written("result") == foreign | {"snapshot_iter_4", "snapshot_iter_5"}

    resumed = trainer_of(8, n_retains=3)
    load_trainer("result/snapshot_iter_5", resumed)
    resumed.run()
    assert written("result") == foreign | {f"snapshot_iter_{i}" for i in (6, 7, 8)}


def test_a_run_resumed_elsewhere_removes_nothing_it_did_not_write(trainer_of):
    trainer_of(3, n_retains=2).run()
    trainer_of(2, out="elsewhere").run()
    resumed = trainer_of(6, out="elsewhere", n_retains=1)
    load_trainer("result/snapshot_iter_3", resumed)
    resumed.run()
    assert written("result") == {"snapshot_iter_2", "snapshot_iter_3"}
    assert written("elsewhere") == {f"snapshot_iter_{i}" for i in (1, 2, 6)}


def test_a_run_resumed_in_a_terminal_finds_all_its_state_and_so_does_one_resumed_in_a_pipe(
    trainer_of, monkeypatch
):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for iterations, stream in enumerate((io.StringIO(), Terminal(), io.StringIO()), start=1):
        monkeypatch.setattr(sys, "stdout", stream)
        trainer = trainer_of(iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Chainer's trigger says so where it finds none
            if iterations > 1:
                load_trainer(f"result/snapshot_iter_{iterations - 1}", trainer)
        trainer.run()


def test_without_a_number_all_snapshots_are_kept(trainer_of):
    trainer_of(3).run()
    assert written("result") == {f"snapshot_iter_{i}" for i in (1, 2, 3)}


def test_the_newest_snapshot_is_the_one_written_last(in_tmp):
    assert newest(in_tmp) is None
    assert newest(in_tmp / "absent") is None
    for name, time in (("9", 5), ("10", 5), ("500", 4), ("99.bak", 9), ("x", 9)):
        (in_tmp / f"snapshot_iter_{name}").touch()
        os.utime(in_tmp / f"snapshot_iter_{name}", ns=(time, time))
    assert newest(in_tmp).name == "snapshot_iter_10"


def test_a_snapshot_of_another_run_is_refused_by_what_differs(trainer_of):
    trainer_of(1, seed=4).run()
    path = "result/snapshot_iter_1"
    with pytest.raises(InputError, match=r"snapshot_iter_1: was taken with --seed 4, .* --seed 5"):
        load_trainer(path, trainer_of(1, seed=5))
    with pytest.raises(InputError, match=r"was taken with --classes 3, this run has --classes 9"):
        load_trainer(path, trainer_of(1, seed=4, classes=9))


def test_weights_alone_and_a_snapshot_of_other_extensions_are_refused(trainer_of):
    trainer = trainer_of(1)
    trainer.run()
    with pytest.raises(InputError, match="not a snapshot of this trainer; .*--initmodel"):
        load_trainer("result/model_iter_1", trainer_of(1))

    arrays = dict(np.load("result/snapshot_iter_1"))
    del arrays["updater/optimizer:main/t"]
    save("lacking", arrays)
    with pytest.raises(InputError, match="lacking: does not fit this run: .*optimizer:main/t"):
        load_trainer("lacking", trainer_of(1))


def test_snapshots_hold_no_pickles(trainer_of):
    trainer_of(1).run()
    with zipfile.ZipFile("result/snapshot_iter_1") as archive:
        assert archive.testzip() is None
    with np.load("result/snapshot_iter_1", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
