"""What is printed where there is no terminal."""

import io
from types import SimpleNamespace

from chainer.training import extensions

from train.progress import ProgressLine, printing_extensions


class Terminal(io.StringIO):
    def isatty(self):
        return True


def trainer_at(iteration, epoch, length, unit):
    return SimpleNamespace(
        updater=SimpleNamespace(iteration=iteration, epoch_detail=epoch),
        stop_trigger=SimpleNamespace(get_training_length=lambda: (length, unit)),
    )


def run_lines(length, unit):
    """Ten iterations of a second each, 0.1 epochs each, from iteration 100 on."""
    stream, now = io.StringIO(), 0.0
    line = ProgressLine(stream, interval_seconds=3, clock=lambda: now)
    line.initialize(trainer_at(100, 10.0, length, unit))
    for i in range(1, 11):
        now = float(i)
        line(trainer_at(100 + i, 10 + i / 10, length, unit))
    return stream.getvalue().splitlines()


def test_a_line_is_printed_no_more_often_than_its_interval():
    assert run_lines(200, "iteration") == [
        "iteration 103, epoch 10.30, 51.5%, 1 iterations/s, 0:01:37 left",
        "iteration 106, epoch 10.60, 53.0%, 1 iterations/s, 0:01:34 left",
        "iteration 109, epoch 10.90, 54.5%, 1 iterations/s, 0:01:31 left",
    ]


def test_the_time_left_is_counted_in_epochs_where_the_length_is():
    assert run_lines(20, "epoch")[-1] == (
        "iteration 109, epoch 10.90, 54.5%, 1 iterations/s, 0:01:31 left"
    )


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines():
    assert isinstance(printing_extensions(["lr"], Terminal())[1], extensions.ProgressBar)
    assert isinstance(printing_extensions(["lr"], io.StringIO())[1], ProgressLine)


def test_the_log_is_printed_without_escape_sequences_into_a_pipe():
    for stream, escaped in ((io.StringIO(), False), (Terminal(), True)):
        report, _ = printing_extensions(["lr"], stream)
        report(SimpleNamespace(get_extension=lambda _: SimpleNamespace(log=[{"lr": 0.5}])))
        assert ("\033" in stream.getvalue()) == escaped
        assert stream.getvalue().rstrip().endswith("0.5")
