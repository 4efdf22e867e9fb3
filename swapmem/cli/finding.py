"""What `swapmem doctor` found, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from rich.table import Table
from rich.text import Text

Level = Literal["ok", "note", "problem"]

_STYLES: dict[Level, str] = {"ok": "green", "note": "yellow", "problem": "bold red"}


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        section: what it belongs to, such as "memory".
        name: what was looked at.
        level: "ok"; "note" works, with a cost or a limit; "problem" makes swapmem unusable.
        text: what was found.
        help: what would help, "" where nothing is needed.
    """

    section: str
    name: str
    level: Level
    text: str
    help: str = ""


def usable(findings: Sequence[Finding]) -> bool:
    """Whether nothing stands in the way of using swapmem."""
    return all(finding.level != "problem" for finding in findings)


def table(findings: Sequence[Finding]) -> Table:
    """Lays findings out by section."""
    result = Table.grid(padding=(0, 2))
    section = ""
    for finding in findings:
        if finding.section != section:
            if section:
                result.add_row()
            section = finding.section
            result.add_row(Text(section, style="bold"))
        text = f"{finding.text}; {finding.help}" if finding.help else finding.text
        result.add_row(
            Text(f"  {finding.level}", style=_STYLES[finding.level]), finding.name, Text(text)
        )
    return result


def record(findings: Sequence[Finding]) -> dict[str, Any]:
    """Returns the findings, fit for JSON."""
    return {
        "schema": 1,
        "made_by": "swapmem doctor",
        "usable": usable(findings),
        "findings": [finding._asdict() for finding in findings],
    }
