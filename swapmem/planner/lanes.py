"""The copies under way, and how fast each of them is."""

from __future__ import annotations

from swapmem.planner.trace import Machine


class Transfer:
    """A copy under way: first what it costs beside its bytes, then its bytes.

    Attributes:
        direction: "out", "in", or "down" from the store to the tier behind it.
        block: index of the block.
        bytes: of the block.
        asked: when it was asked for, in seconds.
        begun: when it began.
        far: the tier behind the store is its other end.
        left_bytes: to be copied.
        wait_seconds: before the first of them.
    """

    __slots__ = (
        "asked",
        "begun",
        "block",
        "bytes",
        "direction",
        "far",
        "left_bytes",
        "wait_seconds",
    )

    def __init__(
        self, direction: str, block: int, size: int, asked: float, begun: float, far: bool
    ) -> None:
        self.direction = direction
        self.block = block
        self.bytes = size
        self.asked = asked
        self.begun = begun
        self.far = far
        self.left_bytes = float(size)
        self.wait_seconds = 0.0


class Lanes:
    """Copies out, copies in, and moves from the store to the tier behind it.

    Copies of one direction share its rate in equal parts. While the other direction is busy too,
    the rates are those measured so. A copy to or from the tier behind passes through the store in
    pieces, so it is as fast as the slower of the two links.
    """

    def __init__(self, machine: Machine) -> None:
        link = machine.link
        behind = machine.behind or link
        self.link = link
        self.behind = behind
        self.far_latency_seconds = link.latency_seconds + behind.latency_seconds
        self.far_out = min(behind.out_bytes_per_second, link.duplex_out_bytes_per_second)
        self.far_in = min(behind.in_bytes_per_second, link.duplex_in_bytes_per_second)
        self.out: list[Transfer] = []
        self.coming: list[Transfer] = []
        self.down: list[Transfer] = []

    @property
    def busy(self) -> bool:
        """Whether any copy is under way."""
        return bool(self.out or self.coming or self.down)

    def start(self, transfer: Transfer) -> None:
        """The copy runs from now on."""
        far = transfer.far
        transfer.wait_seconds = self.far_latency_seconds if far else self.link.latency_seconds
        if transfer.direction == "out":
            self.out.append(transfer)
        elif transfer.direction == "in":
            self.coming.append(transfer)
        else:
            transfer.wait_seconds = self.behind.latency_seconds
            self.down.append(transfer)

    def advance(self, limit_seconds: float) -> tuple[float, list[Transfer]]:
        """Lets time pass until a copy is complete, `limit_seconds` at most.

        Returns:
            How many seconds passed, and the copies that are complete.
        """
        both = bool(self.out and self.coming)
        link = self.link
        plan = []
        soonest = limit_seconds
        for lane, near, far in (
            (
                self.out,
                link.duplex_out_bytes_per_second if both else link.out_bytes_per_second,
                self.far_out,
            ),
            (
                self.coming,
                link.duplex_in_bytes_per_second if both else link.in_bytes_per_second,
                self.far_in,
            ),
            (self.down, 0.0, self.behind.out_bytes_per_second),
        ):
            for transfer in lane:
                rate = (far if transfer.far else near) / len(lane)
                seconds = transfer.wait_seconds + transfer.left_bytes / rate
                plan.append((seconds, transfer, rate, lane))
                if seconds < soonest:
                    soonest = seconds
        complete = []
        for seconds, transfer, rate, lane in plan:
            if seconds <= soonest:
                lane.remove(transfer)
                complete.append(transfer)
            elif transfer.wait_seconds >= soonest:
                transfer.wait_seconds -= soonest
            else:
                transfer.left_bytes -= (soonest - transfer.wait_seconds) * rate
                transfer.wait_seconds = 0.0
        return soonest, complete
