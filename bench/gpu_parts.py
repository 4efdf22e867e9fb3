"""Commands with a hard limit on their time: what `make gpu-check` is made of."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_TAIL_CHARACTERS = 4000
# For a process that was told to end.
_GRACE_SECONDS = 2.0

Status = Literal["passed", "failed", "timed out", "not run"]


@dataclass(frozen=True)
class Part:
    """Commands that belong together.

    Attributes:
        name: for people.
        commands: run one after the other, as long as they succeed.
        limit_seconds: for all of them; what still runs then is ended.
        needs: the name of a part that must have passed.
        environment: what differs from this process's; None removes a variable.
        nothing_status: the exit status that means that there was nothing to do, if any.
    """

    name: str
    commands: Sequence[Sequence[str]]
    limit_seconds: float
    needs: str = ""
    environment: dict[str, str | None] = field(default_factory=dict)
    nothing_status: int | None = None


@dataclass(frozen=True)
class PartResult:
    """How a part went.

    Attributes:
        name: of the part.
        status: "not run" is for want of time or of another part.
        seconds: it took.
        reason: why it did not pass, or what else is worth a word.
        output: the end of what its commands printed, both streams together.
    """

    name: str
    status: Status
    seconds: float = 0.0
    reason: str = ""
    output: str = ""

    @property
    def last_line(self) -> str:
        lines = self.output.strip().splitlines()
        return lines[-1].strip() if lines else ""


def run_parts(
    parts: Sequence[Part],
    cwd: Path,
    deadline: float,
    tell: Callable[[str], None] = lambda _: None,
) -> list[PartResult]:
    """Runs parts in turn; one that fails does not keep those that do not need it from running.

    Args:
        parts: what to run.
        cwd: where.
        deadline: on the clock of time.monotonic; no part runs beyond it.
        tell: is given a line before and after each part.
    """
    results: dict[str, PartResult] = {}
    for part in parts:
        tell(f"{part.name} ...")
        needed = results.get(part.needs)
        if needed is not None and needed.status != "passed":
            result = PartResult(part.name, "not run", reason=f"needs: {part.needs}")
        elif deadline - time.monotonic() <= 0:
            result = PartResult(part.name, "not run", reason="no time is left")
        else:
            result = run_part(part, cwd, deadline)
        results[part.name] = result
        tell(f"  {result.status}, {result.seconds:.0f} s {result.reason}".rstrip())
    return list(results.values())


def run_part(part: Part, cwd: Path, deadline: float) -> PartResult:
    """Runs the commands of a part, within its limit and before the deadline."""
    begin = time.monotonic()
    end = min(begin + part.limit_seconds, deadline)
    environment = dict(os.environ)
    for name, value in part.environment.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    status: Status = "passed"
    reason = ""
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        for command in part.commands:
            code = _run(command, cwd, environment, out.fileno(), end)
            if code is None:
                status, reason = "timed out", f"ended after {time.monotonic() - begin:.0f} s"
            elif code == part.nothing_status:
                reason = "there was nothing to run"
            elif code != 0:
                status = "failed"
                reason = f"status {code}" if code > 0 else f"ended by signal {-code}"
            if status != "passed":
                break
        out.seek(0)
        output = out.read()[-_TAIL_CHARACTERS:]
    return PartResult(part.name, status, time.monotonic() - begin, reason, output)


def _run(
    command: Sequence[str], cwd: Path, environment: dict[str, str], out: int, end: float
) -> int | None:
    """Returns the exit status, None if the time was over first. Nothing of it runs on."""
    try:
        # A session of its own, so that children of children end with it.
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        os.write(out, f"{command[0]}: {error.strerror}\n".encode())
        return 127
    try:
        return process.wait(max(end - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a process and its children; on an interrupt as well."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
