"""A trace of ResNet-50 on a GPU that is not here, computed from its layers.

An op takes as long as its arithmetic or its memory traffic, whichever is longer. A convolution and
a batch normalization keep their input, a ReLU its output, a sum nothing, each until its backward is
done. A sum hands its gradient on to both its inputs; where two gradients meet, the convolution that
makes the second adds the first to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from swapmem.planner.trace import Rates, Trace
from tests.planner.synthetic import Layer, network

_FLOAT = 4


@dataclass(frozen=True)
class Gpu:
    """What an op's time is computed from.

    Attributes:
        flops: float32 operations per second that a convolution reaches.
        memory_bytes_per_second: that element-wise ops reach.
        link: to the host's memory.
    """

    flops: float
    memory_bytes_per_second: float
    link: Rates


def trace(batch: int, gpu: Gpu, insize: int = 224) -> Trace:
    """One training iteration with momentum SGD, and the segments of train/models/resnet50.py."""
    return replace(_Layers(batch, gpu, insize).trace(), device="cuda:0")


class _Layers:
    def __init__(self, batch: int, gpu: Gpu, insize: int) -> None:
        self.batch, self.gpu, self.insize = batch, gpu, insize
        self.layers: list[Layer] = []
        self.segment: str | None = None

    def trace(self) -> Trace:
        size = -(-self.insize // 2)
        self.segment = "conv1"
        last = self._relu(self._normalized("conv1", -1, 3, 64, 7, size), 64, size)
        size = -(-size // 2)
        last = self._add_layer("max pooling", (last,), 64, size, 3 * 64 * size * size * _FLOAT)
        channels = 64
        for stage, (units, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=2):
            for unit in range(units):
                self.segment = f"stage{stage}.{unit}"
                size = size if stage == 2 or unit else -(-size // 2)
                last = self._bottleneck(last, channels, width, size, projected=unit == 0)
                channels = 4 * width
        self.segment = None
        pooled = self._add_layer("average pooling", (last,), channels, 1, 0, keeps_inputs=False)
        self._add_layer("linear", (pooled,), 1000, 1, 0, parameter_bytes=channels * 1000 * _FLOAT)
        images = self.batch * 3 * self.insize**2 * _FLOAT
        return network(
            self.layers,
            link=self.gpu.link,
            batch_bytes=images,
            sum_bytes_per_second=self.gpu.memory_bytes_per_second,
        )

    def _bottleneck(self, entry: int, channels: int, width: int, size: int, projected: bool) -> int:
        inner = self._normalized("down", entry, channels, width, 1, size)
        inner = self._relu(inner, width, size)
        inner = self._normalized("middle", inner, width, width, 3, size)
        inner = self._relu(inner, width, size)
        inner = self._normalized("up", inner, width, 4 * width, 1, size)
        shortcut = entry
        if projected:
            shortcut = self._normalized("projection", entry, channels, 4 * width, 1, size)
        traffic = 3 * 4 * width * size * size * _FLOAT
        total = self._add_layer(
            "add", (inner, shortcut), 4 * width, size, traffic, keeps_inputs=False, hands_on=True
        )
        return self._relu(total, 4 * width, size)

    def _normalized(
        self, name: str, entry: int, channels: int, out: int, kernel: int, size: int
    ) -> int:
        around, self.segment = self.segment, f"{self.segment}/{name}"
        weights = channels * out * kernel * kernel
        flops = 2 * weights * size * size * self.batch
        traffic = (channels + out) * size * size * _FLOAT
        convolved = self._add_layer(
            "convolution",
            (entry,),
            out,
            size,
            traffic,
            flops,
            parameter_bytes=weights * _FLOAT,
            sums=True,
        )
        # Read for the statistics, read again, written.
        normalized = self._add_layer(
            "batch normalization",
            (convolved,),
            out,
            size,
            3 * out * size * size * _FLOAT,
            parameter_bytes=4 * out * _FLOAT,
        )
        self.segment = around
        return normalized

    def _relu(self, entry: int, channels: int, size: int) -> int:
        traffic = 2 * channels * size * size * _FLOAT
        return self._add_layer(
            "relu", (entry,), channels, size, traffic, keeps_inputs=False, keeps_output=True
        )

    def _add_layer(
        self,
        name: str,
        inputs: tuple[int, ...],
        channels: int,
        size: int,
        traffic_bytes: int,
        flops: int = 0,
        *,
        keeps_inputs: bool = True,
        keeps_output: bool = False,
        parameter_bytes: int = 0,
        hands_on: bool = False,
        sums: bool = False,
    ) -> int:
        seconds = max(
            flops / self.gpu.flops,
            self.batch * traffic_bytes / self.gpu.memory_bytes_per_second,
            5e-6,
        )
        self.layers.append(
            Layer(
                name,
                inputs,
                self.batch * channels * size * size * _FLOAT,
                seconds,
                keeps_inputs,
                keeps_output,
                parameter_bytes,
                segment=self.segment,
                hands_on=hands_on,
                sums=sums,
            )
        )
        return len(self.layers) - 1
