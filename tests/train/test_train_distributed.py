"""Several processes: one training with all their batches together, and they end together."""

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import chainer
import numpy as np
import pytest
from python_runs import last_words
from saved_arrays import arrays, assert_identical
from several_processes import mpi_run

import swapmem
from train import distributed, launch, train_imagenet
from train.data import make_batches, read_data
from train.devices import choose_device, memory_options
from train.distributed import MPIProcesses, choose_communicator
from train.errors import InputError
from train.launch import require_processes
from train.parallel import Processes
from train.run import _require_equal

MIB = 1 << 20
OPTIONS = ["--insize", "8", "--classes", "3", "-b", "3", "-j", "1", "--communicator", "naive"]
SCARCE = ["-a", "wide", "--insize", "64", "--ooc", "--device-memory", "28MiB", "--spill-dir", "."]


class Node(Processes):
    """One of two processes of a machine."""

    size = node_size = 2

    def __init__(self, rank=1):
        super().__init__()
        self.rank = self.node_rank = rank


def cupy_of(gpus):
    return Namespace(cuda=Namespace(runtime=Namespace(getDeviceCount=lambda: gpus)))


def log(out):
    return json.loads(Path(out, "log").read_text())


def test_two_processes_train_as_one_with_the_batches_of_both(data, plain):
    common = [*data, *OPTIONS, "-a", "plain", "-i", "7", "--lr", "0.1", "--lr-step", "1"]
    done = mpi_run(2, *common, "-B", "2", "-o", "two")
    assert done.returncode == 0, done.stderr
    assert train_imagenet.main([*common[:-2], "-B", "4", "-o", "one", "--lr-step", "1"]) == 0
    one, two = arrays("one/model_iter_7"), arrays("two/model_iter_7")
    assert one.keys() == two.keys()
    for name, array in one.items():
        difference = np.linalg.norm(two[name] - array) / np.linalg.norm(array)
        assert difference < 1e-6, (name, difference)
    rows = list(zip(log("one"), log("two"), strict=True))
    assert [row["iteration"] for row, _ in rows] == [3, 5, 7]
    for ours, theirs in rows:
        for column in ("validation/main/loss", "validation/main/accuracy", "lr"):
            assert theirs[column] == pytest.approx(ours[column], rel=1e-5)


def test_several_processes_go_on_out_of_core_as_if_nothing_had_been(write_list):
    lists = [write_list("train", 12, (64, 64)), write_list("val", 3, (64, 64))]
    np.save("mean.npy", np.full((3, 64, 64), 128, np.float32))
    for out, length in (("whole", 4), ("part", 2), ("part", 4)):
        done = mpi_run(
            2, *lists, *OPTIONS, *SCARCE, "-B", "4", "-i", length, "-o", out, "--autoload"
        )
        assert done.returncode == 0, done.stderr
        assert ("resumed from part/snapshot_iter_2 " in done.stdout) == (
            (out, length) == ("part", 4)
        )
    assert_identical(arrays("whole/model_iter_4"), arrays("part/model_iter_4"))
    # Of both processes: without that of the statistics, the other one's evaluation would differ.
    for column in ("validation/main/loss", "validation/main/accuracy"):
        assert log("whole")[-1][column] == log("part")[-1][column]
    # The machine's budget, divided by its two processes; both were short of memory.
    for name in ("swap_report.json", "swap_report.1.json"):
        report = json.loads(Path("whole", name).read_text())
        assert report["budget_bytes"] == 14 * MIB
        assert report["peak_charged_bytes"] <= 14 * MIB < report["peak_live_bytes"]


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_keeps_its_share_of_the_files_in_memory(data, in_tmp, rank):
    options = ["--insize", "8", "--classes", "3", "-B", "2", "-b", "3", "--loadtype", "custom"]
    args = train_imagenet.arguments.parse([*data, *options])
    node = Node(rank)
    images = read_data(args, node)
    for path in in_tmp.glob("*.png"):
        path.unlink()
    endless, sweep = make_batches(args, images, node)
    # Ten images, every other one this process's, labels 0, 1, 2, 0...
    labels = [int(label) for _ in range(5) for _, label in next(endless)]
    assert sorted(labels[:5]) == sorted(i % 3 for i in range(rank, 10, 2))
    assert [int(label) for batch in sweep for _, label in batch] == [
        i % 3 for i in range(rank, 5, 2)
    ]


@pytest.mark.parametrize(
    ("options", "last"),
    [
        # The other process has lists and all; it must not wait for ever, or write.
        (["--mean", "mean.{rank}npy"], "error: mean.1npy: cannot read the mean image: No such f"),
        (["--communicator", "dummy"], "error: --communicator dummy works on GPUs alone: add --gpu"),
        (["--lr", "0"], "error: argument --lr: 0: must be above 0"),
    ],
)
def test_what_cannot_be_used_is_said_once_for_all(data, options, last):
    Path("mean.npy").rename("mean.0npy")
    done = mpi_run(2, *data, *OPTIONS, "-a", "tiny", *options)
    assert done.returncode == 2
    assert done.stderr.count("train_imagenet.py: error: ") == 1
    assert last in done.stderr.splitlines()[-1]
    assert "result" not in os.listdir()


def test_the_mpiexec_of_another_mpi_is_noticed(data):
    started = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, Path(train_imagenet.__file__), *data, "--insize", "12"],
        env={**os.environ, **started},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "mpiexec started 2 processes and MPI knows of 1: mpiexec and mpi4py be" in done.stderr
    assert "result" not in os.listdir()


def test_a_failure_in_one_process_ends_all(data, in_tmp):
    (in_tmp / "train 4.png").write_text("broken")
    done = mpi_run(2, *data, *OPTIONS, "-a", "tiny", "-B", "2", "-i", "50")
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if line.startswith("train_imagenet.py")]
    assert len(told) == 1
    assert "of 2: error: train.txt:5: cannot read the image './train 4.png'" in told[0]


def test_last_words_are_read_before_mpi_aborts(monkeypatch):
    read, write = os.pipe()
    os.write(write, b"last words")
    found = []
    monkeypatch.setattr(distributed.time, "sleep", lambda _: found.append(os.read(read, 100)))
    distributed.wait_until_read(write)
    distributed.wait_until_read(write)
    assert found == [b"last words"]
    os.close(read)
    os.close(write)


def test_nobody_waits_for_a_reader_that_has_stopped(monkeypatch):
    read, write = os.pipe()
    os.write(write, b"last words")
    waited = []
    monkeypatch.setattr(distributed.time, "sleep", lambda _: waited.append(1))
    monkeypatch.setattr(distributed.time, "monotonic", lambda: float(len(waited)))
    distributed.wait_until_read(write)
    assert len(waited) == 2
    os.close(read)
    os.close(write)


def test_another_number_of_processes_than_was_asked_for_is_refused():
    require_processes(Namespace(processes=2), Node())
    require_processes(Namespace(processes=None), Node())
    with pytest.raises(InputError, match="--processes 3, but MPI started 2 on this machine"):
        require_processes(Namespace(processes=3), Node())


def test_other_weights_on_another_machine_are_noticed():
    _require_equal(["a", "a"])
    with pytest.raises(InputError, match="process 1 begins with other weights than process 0"):
        _require_equal(["a", "b"])


def test_an_interrupt_ends_all_processes_of_a_run_that_started_them_itself(data):
    command = [sys.executable, Path(__file__).with_name("several_processes.py"), *data]
    command += [*OPTIONS[:-2], "-a", "jacintonet11", "-B", "2", "-E", "100000", "--insize", "12"]
    # A process of a test runner in the background would ignore the signal.
    program = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, command), "--processes", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(3):
            assert process.stdout.readline(), process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        error = last_words(process)[1]
    assert process.returncode == 130, error
    told = [line for line in error.splitlines() if line.startswith("train_imagenet.py")]
    assert told, error
    assert told[0].startswith("train_imagenet.py: interrupted; the newest snapshot is result/snap")
    assert error.count("interrupted: ends after this iteration") == 1
    assert not [name for name in os.listdir("result") if name.startswith(".")]


def test_an_array_is_kept_in_memory_while_mpi_works_on_it(in_tmp):
    with swapmem.Manager("host", "8MiB", in_tmp) as memory:
        held = []

        class World:
            def Allreduce(self, place, array):
                held.append(memory.block(array).pinned)
                array += 1

        processes = object.__new__(MPIProcesses)
        processes._mpi = Namespace(COMM_WORLD=World(), IN_PLACE=None)
        processes.size, processes.pinned = 2, memory.pinned
        array = np.ones(1 << 20, np.float32)
        memory.swap_out(array).wait()
        processes.average(array)
        assert held == [True]
        assert not memory.block(array).pinned
        np.testing.assert_array_equal(array, 1)


def test_all_gradients_are_kept_in_memory_while_a_gpus_communicator_works_on_them(in_tmp):
    with swapmem.Manager("host", "16MiB", in_tmp) as memory:
        model = chainer.links.Linear(1 << 9, 1 << 10)
        model.W.grad = np.ones_like(model.W.array)
        memory.swap_out(model.W.grad).wait()
        held = []

        class Communicator:
            def multi_node_mean_grad(self, model):
                held.append(memory.block(model.W.grad).pinned)

        processes = object.__new__(MPIProcesses)
        processes._communicator, processes._on_gpus = Communicator(), True
        processes.pinned = memory.pinned
        processes.average_gradients(model)
        assert held == [True]


@pytest.mark.parametrize(
    ("name", "on_gpus", "chosen", "said"),
    [
        (None, True, "pure_nccl", ""),
        (None, False, "naive", ""),
        ("flat", True, "flat", ""),
        ("hierarchical", True, "pure_nccl", "hierarchical is no more in Chainer 7: using pure_"),
        ("two_dimensional", True, "pure_nccl", "two_dimensional is no more"),
        ("single_node", False, "naive", "single_node is no more in Chainer 7: using naive"),
    ],
)
def test_communicators_that_are_no_more_are_replaced_with_a_notice(name, on_gpus, chosen, said):
    communicator, notice = choose_communicator(name, on_gpus)
    assert communicator == chosen
    assert said in notice
    assert bool(said) == bool(notice)


def test_a_communicator_for_gpus_is_refused_without(monkeypatch, data, capsys):
    assert train_imagenet.main([*data, *OPTIONS[:-1], "pure_nccl"]) == 2
    error = capsys.readouterr().err
    assert "error: --communicator pure_nccl works on GPUs alone: add --gpu, or take na" in error
    assert error.count("\n") == 1


def test_a_machine_without_mpi_says_what_to_install(monkeypatch, data, capsys):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert train_imagenet.main([*data, *OPTIONS]) == 2
    error = capsys.readouterr().err
    assert "several processes need MPI and mpi4py" in error
    assert "pip install 'swapmem[mpi]'" in error
    assert error.count("\n") == 1

    monkeypatch.setattr(launch.shutil, "which", lambda *args, **kwargs: None)
    assert train_imagenet.main([*data, *OPTIONS[:-2], "--processes", "2"]) == 2
    assert "several processes need mpiexec" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "started"),
    [
        (["--gpu", "0", "1", "2", "3"], 4),
        (["--gpus", "1,3"], 2),
        (["--devices", "@cupy:0", "@cupy:1"], 2),
        (["--processes", "3"], 3),
        (["--gpu", "1"], 0),
        (["-g", "-1"], 0),
        ([], 0),
    ],
)
def test_there_is_a_process_for_each_gpu_unless_they_run_already(monkeypatch, options, started):
    args = train_imagenet.arguments.parse([*options, "train.txt", "val.txt"])
    assert launch.missing_processes(args) == started
    monkeypatch.setenv("PMI_RANK", "0")
    assert launch.missing_processes(args) == 0


@pytest.mark.parametrize("name", distributed._RANKS)
def test_a_process_that_mpi_started_is_recognized(name):
    assert distributed.launched_rank({name: "2"}) == 2
    assert distributed.launched_rank({"PATH": "/bin"}) is None


def test_processes_of_a_machine_take_a_gpu_each(monkeypatch):
    used = []
    monkeypatch.setitem(sys.modules, "cupy", cupy_of(gpus=8))
    monkeypatch.setattr(
        "train.devices.chainer.get_device",
        lambda name: Namespace(use=lambda: used.append(name)),
    )
    choose_device([3, 5], Node(1))
    assert used == ["@cupy:5"]
    with pytest.raises(InputError, match="--gpu names 1 GPUs and 2 processes run on this machine"):
        choose_device([3], Node(0))


def test_gpus_that_are_not_there_are_said_before_processes_are_started(monkeypatch, data, capsys):
    monkeypatch.setitem(sys.modules, "cupy", cupy_of(gpus=2))
    monkeypatch.setattr(launch.subprocess, "Popen", None)
    assert train_imagenet.main([*data, *OPTIONS, "--gpu", "0", "1", "2"]) == 2
    assert "--gpu 2: this machine has 2 GPUs, counted from 0" in capsys.readouterr().err


def test_the_machines_memory_is_shared_by_its_processes():
    def options(device, **given):
        defaults = {"ooc": "auto", "device_memory": None, "host_memory": None, "spill_dir": "d"}
        return memory_options(Namespace(**{**defaults, **given}), device, Node())

    host = chainer.get_device("@numpy")
    assert options(host, device_memory="3GiB")["device_memory"] == 3 << 29
    ram_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert options(host)["device_memory"] == pytest.approx(0.4 * ram_bytes, rel=1e-6)
    assert options(host, ooc=None) is None

    gpu = Namespace(xp=object(), device=Namespace(id=3))
    assert options(gpu, device_memory="3GiB", host_memory="8GiB") == {
        "device": "cuda:3", "device_memory": "3GiB", "host_memory": 4 << 30, "spill_dir": "d",
        "plan": "auto",
    }  # fmt: skip
    assert 0 < options(gpu)["host_memory"] < ram_bytes / 4
