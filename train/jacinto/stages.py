"""The four stages: dense training, sparse training, test, test in whole numbers."""

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chainer
import numpy as np
from numpy.typing import NDArray

from train import dataset, optimizers, snapshots
from train.batches import SweepBatches
from train.data import Data, make_batches
from train.jacinto.accuracy import accuracy
from train.jacinto.pruning import Pruner, sparsity
from train.jacinto.quantize import Bits, Quantized
from train.jacinto.solver import Preset, Pruning, Solver
from train.jacinto.summary import Stage
from train.models.jacintonet11 import JacintoNet11
from train.parallel import ALONE
from train.schedules import Poly
from train.trainer import Recipe, Until, make_trainer

#: Training images that show how large the numbers between layers get.
_MEASURED_IMAGES = 640
#: Evaluations and log rows of a stage.
_EVALUATIONS, _ROWS = 4, 20


def carry_out(args: Namespace, preset: Preset, data: Data, device: Any) -> list[Stage]:
    """Goes through the stages; what an earlier run finished is loaded, not done again.

    Args:
        args: The options of :mod:`train.jacinto.arguments`.
        preset: How to train.
        data: Images and mean.
        device: Chainer's device, which trains.

    Returns:
        What was measured of the dense, the sparse and the quantized network.

    Raises:
        InputError: A snapshot in ``--out`` is of a run with other options, or a file cannot be
            used.
    """
    np.random.seed(args.seed)  # the weights; Chainer draws them from here
    model = JacintoNet11(args.insize, args.classes)
    model.to_device(device)

    _train(args, "initial", preset.initial, None, model, data, device)
    validation = _validation(args, data)
    stages = [Stage("initial", accuracy(model.predict, validation, device), sparsity(model))]
    _train(args, "sparse", preset.sparse, preset.pruning, model, data, device)
    stages.append(Stage("sparse", accuracy(model.predict, validation, device), sparsity(model)))

    bits = Bits(args.weight_bits, args.activation_bits, args.bias_bits)
    quantized = Quantized(model, _shown(args, data, device), bits)
    found = accuracy(quantized.predict, validation, device)
    return [*stages, Stage("quantized", found, sparsity(quantized.model))]


def _train(
    args: Namespace,
    stage: str,
    solver: Solver,
    pruning: Pruning | None,
    model: chainer.Chain,
    data: Data,
    device: Any,
) -> None:
    """Trains one stage, from its newest snapshot on if there is one."""
    out = Path(args.out, stage)
    os.makedirs(out, exist_ok=True)
    optimizer = optimizers.make("momentum_sgd", model, solver.rate, solver.momentum)
    optimizers.decay(optimizer, solver.l2, solver.l1, biases=False)
    options = {"stage": stage, "classes": args.classes, "insize": args.insize, "seed": args.seed}
    options |= solver.as_dict() | (pruning.as_dict() if pruning else {})
    trainer = make_trainer(
        optimizer,
        *make_batches(args, data, ALONE),
        Recipe(
            Until(solver.iterations, "iteration"),
            Poly(solver.rate, solver.iterations, solver.power),
            evaluate_every=(max(solver.iterations // _EVALUATIONS, 1), "iteration"),
            log_every=(max(solver.iterations // _ROWS, 1), "iteration"),
            bias_rate=solver.bias_rate,
            accumulate=solver.batch // args.batchsize,
            seed=args.seed,
            n_retains=1,
        ),
        str(out),
        identity={name.replace("_", "-"): value for name, value in options.items()},
        device=device,
    )
    if pruning is not None:
        trainer.extend(Pruner(model, pruning))
    if newest := snapshots.newest(out):
        snapshots.load_trainer(newest, trainer)
    with ALONE.deferring_interrupts():
        # A failure is told once, by whoever catches it.
        trainer.run(show_loop_exception_msg=False)


def _validation(args: Namespace, data: Data) -> SweepBatches:
    crops = dataset.CentreCrops(data.validation, data.mean, args.insize)
    return SweepBatches(crops, args.val_batchsize, args.loaderjob or 0)


def _shown(args: Namespace, data: Data, device: Any) -> Iterator[NDArray[Any]]:
    """Yields batches of training images from all over the list, which may be sorted by class."""
    step = max(len(data.training) // _MEASURED_IMAGES, 1)
    some = data.training.select(range(0, len(data.training), step))
    crops = dataset.CentreCrops(some, data.mean, args.insize)
    for batch in SweepBatches(crops, args.val_batchsize, args.loaderjob or 0):
        yield chainer.dataset.concat_examples(batch, device)[0]
