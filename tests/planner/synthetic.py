"""Traces of networks that nobody runs: for tests of what reads a trace.

`network` walks a list of layers forward and backward like Chainer does, with the same rules on what
lives how long, and returns the trace of a steady iteration. `chain`, `resnet_like` and
`with_branches` give it lists; `random_trace` makes a network of any shape from a seed. Import it
from anywhere as `from tests.planner import synthetic`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from swapmem.planner.trace import Block, Change, Machine, Op, Rates, Trace

MIB = 1 << 20


@dataclass(frozen=True)
class Layer:
    """A function of a network. Inputs are indices of earlier layers, -1 is the batch of images.

    For networks whose gradients are summed apart: one that `hands_on` gives its inputs the gradient
    of its output itself, as Chainer's sum does; one that `sums` adds to the gradient that it makes
    the one that is there, as the trainer's convolutions do.
    """

    name: str
    inputs: tuple[int, ...]
    bytes: int
    seconds: float
    keeps_inputs: bool = True
    keeps_output: bool = False
    parameter_bytes: int = 0
    workspace_bytes: int = 0
    segment: str | None = None
    hands_on: bool = False
    sums: bool = False


class Recorder:
    """Notes ops, allocations and frees as they would happen."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.blocks: list[Block] = []
        self.changes: list[Change] = []
        self.inside = False

    @property
    def slot(self) -> int:
        return 2 * len(self.ops) + (1 if self.inside else 0)

    def persistent(self, bytes_: int, name: str) -> int:
        """A block that is there at the begin and at the end."""
        self.blocks.append(Block(bytes_, None, None, name=name))
        return len(self.blocks) - 1

    def allocate(self, bytes_: int, name: str) -> int:
        self.blocks.append(Block(bytes_, self.slot, None, name=name))
        self.changes.append(Change(self.slot, len(self.blocks) - 1, True))
        return len(self.blocks) - 1

    def free(self, block: int) -> None:
        self.blocks[block] = replace(self.blocks[block], freed=self.slot)
        self.changes.append(Change(self.slot, block, False))

    def begin(self) -> None:
        self.inside = True

    def end(
        self,
        name: str,
        phase: str,
        seconds: float,
        touches: Iterable[int],
        writes: Iterable[int] = (),
        segment: str | None = None,
        gap_seconds: float = 0.0,
    ) -> None:
        self.inside = False
        touched = tuple(dict.fromkeys(touches))
        self.ops.append(Op(name, phase, seconds, gap_seconds, touched, tuple(writes), segment))

    def trace(self, machine: Machine, tail_seconds: float = 0.0) -> Trace:
        first = self.ops[0].touches if self.ops else ()
        return Trace(
            device="host",
            ops=tuple(self.ops),
            blocks=tuple(self.blocks),
            changes=tuple(self.changes),
            machine=machine,
            tail_seconds=tail_seconds,
            batch=tuple(self.blocks[b].bytes for b in first),
        )


def rates(
    bytes_per_second: float = 1e9, latency_seconds: float = 0.0, slowdown: float = 1.0
) -> Rates:
    """The same both ways, and as much with both directions busy."""
    rate = bytes_per_second
    return Rates(rate, rate, rate, rate, latency_seconds, slowdown)


def with_budget(trace: Trace, fraction: float) -> Trace:
    """The trace on a machine that has this fraction of what is live at the worst moment."""
    live = sum(block.bytes for block in trace.blocks if block.born is None)
    peak = live
    for change in trace.changes:
        live += trace.blocks[change.block].bytes * (1 if change.allocates else -1)
        peak = max(peak, live)
    return replace(trace, machine=replace(trace.machine, budget_bytes=int(peak * fraction)))


def network(
    layers: Sequence[Layer],
    *,
    link: Rates | None = None,
    fraction: float = 1.0,
    batch_bytes: int = 4 * MIB,
    gap_seconds: float = 0.0,
    tail_seconds: float = 0.0,
    frees_late: bool = False,
    sum_bytes_per_second: float | None = None,
) -> Trace:
    """A steady iteration: the batch comes, forward, backward, one update for each parameter.

    An activation lives until no function that keeps it is left (or, with `frees_late`, until all of
    backward is done: so it is where the graph is held by the loss). Gradients of parameters live
    until the next iteration clears them. Where two gradients meet, the backward op that makes the
    second adds it to the first; with `sum_bytes_per_second`, as with
    ``chainer.config.lazy_grad_sum``, an op of its own reads both and writes a third.
    """
    note = Recorder()
    keep = _Keeping(layers, frees_late)
    parameters = {
        i: note.persistent(layer.parameter_bytes, f"{layer.name}.W")
        for i, layer in enumerate(layers)
        if layer.parameter_bytes
    }
    momenta = {i: note.persistent(note.blocks[p].bytes, "v") for i, p in parameters.items()}
    old_gradients = {
        i: note.persistent(note.blocks[p].bytes, "old dW") for i, p in parameters.items()
    }
    for block in old_gradients.values():
        note.free(block)
    arrays = {-1: note.allocate(batch_bytes, "images")}
    gap = gap_seconds

    for i, layer in enumerate(layers):
        note.begin()
        touched = [arrays[j] for j in layer.inputs]
        touched += [parameters[i]] if i in parameters else []
        workspace = (
            [note.allocate(layer.workspace_bytes, "workspace")] if layer.workspace_bytes else []
        )
        arrays[i] = note.allocate(layer.bytes, f"{layer.name} output")
        for block in workspace:
            note.free(block)
        note.end(layer.name, "forward", layer.seconds, touched, (), layer.segment, gap)
        for j in keep.after_forward(i):
            note.free(arrays.pop(j))

    last = len(layers) - 1
    gradients = _Gradients(note, layers)
    gradients.put(last, note.allocate(layers[last].bytes, "gradient of the loss"))
    parameter_gradients = {}
    for i in range(last, -1, -1):
        layer = layers[i]
        note.begin()
        touched = [arrays[j] for j in layer.inputs if layer.keeps_inputs]
        touched += [arrays[i]] if layer.keeps_output else []
        touched.append(gradients.of[i])
        touched += [parameters[i]] if i in parameters else []
        known = set() if sum_bytes_per_second else gradients.of.keys() & set(layer.inputs)
        written = [gradients.of[j] for j in dict.fromkeys(layer.inputs) if j in known]
        touched += written
        seconds = 2 * layer.seconds
        if sum_bytes_per_second and layer.sums:
            there = [j for j in dict.fromkeys(layer.inputs) if j in gradients.of]
            touched += [gradients.of[j] for j in there]
            seconds += sum(3 * layers[j].bytes for j in there) / sum_bytes_per_second
        made = gradients.made_by(i, known)
        if i in parameters:
            parameter_gradients[i] = note.allocate(layer.parameter_bytes, f"{layer.name}.dW")
            # In the steady state it is the gradient that the next iteration clears.
            old = old_gradients[i]
            carried = replace(note.blocks[old], carried_from=parameter_gradients[i])
            note.blocks[old] = carried
        name = f"{layer.name} backward"
        note.end(name, "backward", seconds, touched, written, layer.segment, gap)
        gradients.let_go(gradients.of.pop(i))
        for j in keep.after_backward(i):
            note.free(arrays.pop(j))
        for j, block in made:
            if layer.sums and j in gradients.of:
                gradients.let_go(gradients.of[j])
            elif sum_bytes_per_second and j in gradients.of:
                seconds = 3 * layers[j].bytes / sum_bytes_per_second
                block = gradients.sum_of(j, block, seconds, gap)
            gradients.of[j] = block
    for j in sorted(arrays):
        note.free(arrays.pop(j))

    for i, parameter in parameters.items():
        note.begin()
        touched = [parameter, momenta[i], parameter_gradients[i]]
        seconds = note.blocks[parameter].bytes / 8e9
        note.end("MomentumSGDRule update", "update", seconds, touched, touched[:2], None, gap)

    machine = Machine(budget_bytes=0, link=link or rates())
    return with_budget(note.trace(machine, tail_seconds), fraction)


class _Gradients:
    """Which block is the gradient of which layer's output; one may be that of several."""

    def __init__(self, note: Recorder, layers: Sequence[Layer]) -> None:
        self.note = note
        self.layers = layers
        self.of: dict[int, int] = {}
        self.uses: Counter[int] = Counter()

    def put(self, i: int, block: int) -> None:
        self.of[i] = block
        self.uses[block] += 1

    def made_by(self, i: int, known: Collection[int]) -> list[tuple[int, int]]:
        """For each layer that this one reads, but those known, the block that it gives it."""
        layer = self.layers[i]
        made = [
            (j, self.of[i] if layer.hands_on else self._allocate(j))
            for j in dict.fromkeys(layer.inputs)
            if j >= 0 and j not in known
        ]
        self.uses.update(block for _, block in made)
        return made

    def sum_of(self, j: int, block: int, seconds: float, gap_seconds: float) -> int:
        """An op that adds to a layer's gradient; the block of the sum."""
        old = self.of[j]
        self.note.begin()
        total = self._allocate(j)
        self.uses[total] += 1
        self.note.end("add", "forward", seconds, (old, block), gap_seconds=gap_seconds)
        self.let_go(old)
        self.let_go(block)
        return total

    def let_go(self, block: int) -> None:
        self.uses[block] -= 1
        if not self.uses[block]:
            self.note.free(block)

    def _allocate(self, j: int) -> int:
        layer = self.layers[j]
        return self.note.allocate(layer.bytes, f"{layer.name} gradient")


class _Keeping:
    """Which arrays a function lets go: those that no function to come reads or has kept."""

    def __init__(self, layers: Sequence[Layer], frees_late: bool) -> None:
        self.layers = layers
        self.frees_late = frees_late
        self.readers = Counter(j for layer in layers for j in set(layer.inputs))
        self.keepers: Counter[int] = Counter()
        for i, layer in enumerate(layers):
            self.keepers.update(set(layer.inputs) if layer.keeps_inputs else ())
            self.keepers.update([i] if layer.keeps_output else ())

    def after_forward(self, i: int) -> list[int]:
        self.readers.subtract(set(self.layers[i].inputs))
        free = [j for j in sorted(set(self.layers[i].inputs)) if not self.readers[j]]
        return [j for j in free if not self.keepers[j]]

    def after_backward(self, i: int) -> list[int]:
        layer = self.layers[i]
        kept = (set(layer.inputs) if layer.keeps_inputs else set()) | (
            {i} if layer.keeps_output else set()
        )
        self.keepers.subtract(kept)
        return [] if self.frees_late else [j for j in sorted(kept) if not self.keepers[j]]


def chain(
    ops: int = 16,
    *,
    bytes_each: int = 64 * MIB,
    seconds: float = 0.1,
    parameter_bytes: int = 0,
    link: Rates | None = None,
    fraction: float = 0.5,
    frees_late: bool = False,
) -> Trace:
    """`ops` equal functions in a row, each of which keeps what it read."""
    layers = [
        Layer(f"F{i}", (i - 1,), bytes_each, seconds, parameter_bytes=parameter_bytes)
        for i in range(ops)
    ]
    return network(
        layers, link=link, fraction=fraction, batch_bytes=bytes_each, frees_late=frees_late
    )


def resnet_like(
    stages: int = 4,
    units: int = 3,
    *,
    bytes_first: int = 64 * MIB,
    seconds_first: float = 0.05,
    link: Rates | None = None,
    fraction: float = 0.5,
    frees_late: bool = True,
) -> Trace:
    """Residual units: convolution, normalization, ReLU, twice, and a sum with what came in.

    Each stage has half the activations' bytes of the one before and four times the parameters'.
    Every unit is a segment.
    """
    layers = [Layer("stem", (-1,), bytes_first, seconds_first, parameter_bytes=MIB)]
    for stage in range(stages):
        size = bytes_first >> stage
        weights = MIB // 4 << (2 * stage)
        heavy, light = seconds_first, seconds_first / 10
        for unit in range(units):
            name = f"stage{stage + 1}.{unit + 1}"
            entry = len(layers) - 1
            for half in ("a", "b"):
                before = len(layers) - 1
                layers.append(
                    Layer(
                        f"conv {half}",
                        (before,),
                        size,
                        heavy,
                        parameter_bytes=weights,
                        workspace_bytes=2 * size,
                        segment=name,
                    )
                )
                layers.append(Layer(f"bn {half}", (len(layers) - 1,), size, light, segment=name))
                if half == "a":
                    relu = Layer("relu a", (len(layers) - 1,), size, light / 2, False, True)
                    layers.append(replace(relu, segment=name))
            shortcut = len(layers) - 1
            if layers[entry].bytes != size:
                layers.append(
                    Layer("shortcut", (entry,), size, heavy / 4, True, False, weights // 4, 0, name)
                )
                entry = len(layers) - 1
            layers.append(Layer("add", (shortcut, entry), size, light / 2, False, segment=name))
            before = len(layers) - 1
            layers.append(Layer("relu", (before,), size, light / 2, False, True, segment=name))
    layers.append(
        Layer("pool", (len(layers) - 1,), 64 << 10, seconds_first / 20, keeps_inputs=False)
    )
    layers.append(Layer("fc", (len(layers) - 1,), 64 << 10, seconds_first / 20, True, False, MIB))
    return network(
        layers, link=link, fraction=fraction, batch_bytes=bytes_first // 4, frees_late=frees_late
    )


def with_branches(
    modules: int = 4,
    branches: int = 4,
    *,
    bytes_each: int = 16 * MIB,
    seconds: float = 0.05,
    link: Rates | None = None,
    fraction: float = 0.5,
    frees_late: bool = False,
) -> Trace:
    """Modules whose input several branches read and whose outputs are concatenated."""
    layers = [Layer("stem", (-1,), bytes_each * branches, seconds, parameter_bytes=MIB)]
    for module in range(modules):
        name = f"inception{module + 1}"
        entry = len(layers) - 1
        ends = []
        for branch in range(branches):
            layers.append(
                Layer(
                    f"conv {branch}",
                    (entry,),
                    bytes_each,
                    seconds / branches,
                    parameter_bytes=MIB,
                    segment=name,
                )
            )
            before = len(layers) - 1
            layers.append(
                Layer("relu", (before,), bytes_each, seconds / 50, False, True, segment=name)
            )
            ends.append(len(layers) - 1)
        total = bytes_each * branches
        layers.append(Layer("concat", tuple(ends), total, seconds / 20, False, segment=name))
    return network(layers, link=link, fraction=fraction, frees_late=frees_late)


def random_trace(seed: int, ops: int = 40, *, fraction: float = 0.5) -> Trace:
    """A network of any shape: branches, several readers, all sizes, all rates; print the seed."""
    pick = random.Random(seed)
    layers: list[Layer] = []
    unread: set[int] = set()
    for i in range(max(1, ops // 2)):
        count = pick.choice([1, 1, 1, 2, 3])
        inputs = {i - 1} | {pick.randrange(max(-1, i - 8), i) for _ in range(count - 1)}
        if unread and pick.random() < 0.2:
            inputs.add(min(unread))
        unread = (unread | {i - 1}) - inputs
        layers.append(
            Layer(
                f"F{i}",
                tuple(sorted(inputs)),
                pick.randrange(1, 4096) * 16384,
                pick.uniform(0.0001, 0.2),
                keeps_inputs=pick.random() < 0.7,
                keeps_output=pick.random() < 0.3,
                parameter_bytes=pick.choice([0, 0, 65536, 4 * MIB]),
                workspace_bytes=pick.choice([0, 0, 0, 8 * MIB]),
                segment=pick.choice([None, "a", "b", "c"]),
            )
        )
    speed = 10 ** pick.uniform(8, 10)
    link = Rates(
        speed,
        speed * pick.uniform(0.5, 2),
        speed * pick.uniform(0.4, 1),
        speed * pick.uniform(0.4, 1),
        pick.choice([0.0, 1e-5, 1e-3]),
        pick.choice([1.0, 1.0, 1.1]),
    )
    return network(
        layers,
        link=link,
        fraction=fraction,
        gap_seconds=pick.choice([0.0, 1e-4]),
        tail_seconds=pick.choice([0.0, 0.05]),
        frees_late=pick.random() < 0.5,
    )
