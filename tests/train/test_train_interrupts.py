"""Interrupts (Ctrl-C): none is lost, and what is begun is finished unless one insists."""

import signal
import weakref

import chainer
import pytest
from conftest import Tiny

from train import train_imagenet
from train.jacinto import __main__ as jacinto
from train.models import ARCHITECTURES
from train.updaters import Updater


@pytest.fixture(autouse=True)
def python_handles_interrupts():
    """Sets the handler of a program on a terminal; what a test runner in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def command(monkeypatch, data, undrawn):
    """Runs the command on a network that calls a function with each batch before its pass."""

    def run(before_batch, *options):
        class Interrupting(Tiny):
            def forward(self, x, t):
                before_batch()
                return super().forward(x, t)

        monkeypatch.setitem(ARCHITECTURES, "interrupting", Interrupting)
        network = ["--arch", "interrupting", "--insize", "8", "--classes", "3"]
        batches = ["-B", "4", "-b", "3", "-j", "2", "-E", "3"]
        return train_imagenet.main([*data, *network, *batches, *options])

    return run


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_finalizer_ends_the_run_after_the_iteration(command, capfd):
    batches = []

    def before_batch():
        batches.append(1)
        weakref.finalize(Tiny(), interrupt)

    assert command(before_batch) == 130
    assert len(batches) == 1
    first, last = capfd.readouterr().err.splitlines()
    assert first == "interrupted: ends after this iteration, at once if interrupted again"
    assert last == "train_imagenet.py: interrupted; the newest snapshot is none"


def test_stages_end_after_the_iteration_too(data, monkeypatch, capfd):
    updates = []
    monkeypatch.setattr(Updater, "_draw_anew", lambda _: (updates.append(1), interrupt()))
    sizes = ["--classes=3", "--insize=8", "--batch=4", "--batchsize=2", "--iterations=8", "-j0"]
    assert jacinto.main([*data, *sizes]) == 130
    assert len(updates) == 1
    assert "ends after this iteration" in capfd.readouterr().err


def test_a_second_interrupt_is_obeyed_at_once(command):
    steps = []

    def before_batch():
        interrupt()
        steps.append("told once")
        interrupt()
        steps.append("told twice")

    assert command(before_batch) == 130
    assert steps == ["told once"]


def test_an_interrupted_evaluation_is_not_finished(command):
    evaluated = []

    def before_batch():
        if not chainer.config.train:
            evaluated.append(1)
            interrupt()

    assert command(before_batch) == 130
    assert len(evaluated) == 1


def test_an_interrupt_in_the_last_iteration_does_not_pass_for_success(command, monkeypatch):
    monkeypatch.setattr(train_imagenet.snapshots.Snapshot, "__call__", lambda *_: interrupt())
    assert command(lambda: None, "-i", "1") == 130


def test_after_a_run_interrupts_are_pythons_again(command):
    assert command(lambda: None) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_programs_own_handler_is_left_alone(command):
    told = []
    signal.signal(signal.SIGINT, lambda *_: told.append(1))
    assert command(interrupt) == 0
    assert told
