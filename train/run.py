"""One run of train_imagenet.py: from its options to trained weights."""

import contextlib
import json
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from chainer import training

import swapmem
from swapmem.chainer import BackwardOnce
from swapmem.explain.measured import measured
from swapmem.explain.run_file import load_run
from swapmem.explain.text import summary
from swapmem.files import replacing
from train import optimizers, schedules, snapshots
from train.data import Data, make_batches, read_data
from train.devices import choose_device, make_manager, memory_options
from train.errors import InputError
from train.launch import require_processes
from train.measure import digest
from train.models import ARCHITECTURES
from train.parallel import Processes
from train.trainer import Recipe, Until, make_trainer


def run(args: Namespace, processes: Processes) -> None:
    """Trains as the options say, together with the other processes.

    Raises:
        InputError: An option or a file cannot be used. Unless it is an image, which is read when
            its turn comes, no file was written or changed.
        swapmem.Error: The memory manager failed, for want of memory or of disk.
    """
    processes.agree(lambda: require_processes(args, processes))
    device = processes.agree(lambda: choose_device(args.gpu, processes))
    options = processes.agree(lambda: memory_options(args, device, processes))
    # Lists and mean are read before the manager begins: they are looked at all the time, by the
    # loader's threads too, and are better left alone.
    data = processes.agree(lambda: read_data(args, processes))
    manager = processes.agree(lambda: make_manager(options))
    with manager or contextlib.nullcontext() as memory, BackwardOnce():
        if memory is not None:
            processes.pinned = memory.pinned
        trainer = processes.agree(lambda: _make_trainer(args, data, device, processes))
        _resume(args, trainer, processes)
        processes.agree(lambda: _make_writable(args.out))
        with _reporting(memory, args, processes), processes.deferring_interrupts():
            # A failure is told once, by whoever catches it.
            trainer.run(show_loop_exception_msg=False)


def _make_trainer(
    args: Namespace, data: Data, device: Any, processes: Processes
) -> training.Trainer:
    np.random.seed(args.seed)  # the weights; Chainer draws them from here
    try:
        model: Any = ARCHITECTURES[args.arch](args.insize, args.classes)
    except ValueError as error:
        raise InputError(f"--insize {args.insize}: {error}") from error
    if args.initmodel:
        snapshots.load_model(args.initmodel, model)
    model.to_device(device)
    optimizer = optimizers.make(args.optimizer, model, args.lr, args.momentum)
    optimizers.decay(optimizer, args.weight_decay, args.l1_decay, not args.no_bias_decay)

    return make_trainer(
        optimizer,
        *make_batches(args, data, processes),
        _recipe(args, len(data.training), processes),
        args.out,
        identity={
            "arch": args.arch,
            "classes": args.classes,
            "seed": args.seed,
            "optimizer": args.optimizer,
        },
        device=device,
        processes=processes,
    )


def _recipe(args: Namespace, examples: int, processes: Processes) -> Recipe:
    of_an_update = args.batchsize * args.accumulate * processes.size
    if args.test:
        evaluate_every = log_every = 10, "iteration"
    else:
        evaluate_every = log_every = 1, "epoch"
        if examples > 1000 * of_an_update:
            log_every = 1000, "iteration"
    end = Until(args.iteration, "iteration") if args.iteration else Until(args.epoch, "epoch")
    return Recipe(
        end,
        _schedule(args, examples, of_an_update),
        evaluate_every,
        (args.snapshot_every, "iteration") if args.snapshot_every else None,
        log_every,
        bias_rate=args.bias_rate,
        accumulate=args.accumulate,
        seed=args.seed,
        n_retains=args.n_retains,
    )


def _schedule(args: Namespace, examples: int, of_an_update: int) -> schedules.Schedule:
    if args.optimizer == "rmsprop_warmup":
        return schedules.Warmup(of_an_update, args.lr)
    base = optimizers.DEFAULT_RATES[args.optimizer] if args.lr is None else args.lr
    if args.schedule == "fixed":
        return schedules.Fixed(base)
    if args.schedule == "poly":
        iterations = args.iteration or -(-args.epoch * examples // of_an_update)
        return schedules.Poly(base, iterations, args.lr_power)
    if args.lr_steps is not None:
        return schedules.Step(base, args.lr_gamma, at=args.lr_steps)
    return schedules.Step(base, args.lr_gamma, every=args.lr_step or 30)


def _resume(args: Namespace, trainer: training.Trainer, processes: Processes) -> None:
    # Of all that is there when the first process looks; for the others it might be another.
    newest = processes.gather(snapshots.newest(args.out) if args.autoload else args.resume)[0]
    if newest:
        processes.agree(lambda: snapshots.load_trainer(newest, trainer))
        if processes.is_first:
            done = trainer.updater.iteration
            print(f"resumed from {newest} after iteration {done}", flush=True)
    if processes.size > 1:
        weights = processes.gather(digest(trainer.updater.get_optimizer("main").target))
        processes.agree(lambda: _require_equal(weights))


def _require_equal(weights: list[str]) -> None:
    for rank, one in enumerate(weights):
        if one != weights[0]:
            raise InputError(
                f"process {rank} begins with other weights than process 0: --initmodel and "
                f"--resume must name the same file on every machine"
            )


def _make_writable(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {directory}: cannot be made: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(f"--out {directory}: not writable")


@contextlib.contextmanager
def _reporting(
    memory: swapmem.Manager | None, args: Namespace, processes: Processes
) -> Iterator[None]:
    """Says at the end, also at a bad one, what the manager did: a report for each process."""
    rank = "" if processes.is_first else f".{processes.rank}"
    run_path = Path(args.out, f"swap_run{rank}.json.gz")
    try:
        yield
    finally:
        if memory is not None:
            if processes.is_first:
                print(memory.report(), flush=True)
            with replacing(Path(args.out, f"swap_report{rank}.json")) as file:
                file.write(json.dumps(memory.stats(), indent=2).encode())
            memory.save_run(
                run_path,
                model=args.arch,
                insize=str(args.insize),
                batchsize=str(args.batchsize),
            )
    if memory is not None and processes.is_first:
        _explain(run_path)


def _explain(path: Path) -> None:
    recorded = load_run(path)
    if recorded.events:
        print(summary(recorded, measured(recorded)))
        print(f"swapmem explain {path} shows the rest", flush=True)
