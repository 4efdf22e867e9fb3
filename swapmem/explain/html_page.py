"""The explanation of a run as one HTML file that needs nothing else, and no network."""

from __future__ import annotations

import html
import json
import os
import re
from importlib import resources
from typing import Any

from swapmem.explain import page_data, text
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run
from swapmem.explain.simulated import simulated
from swapmem.explain.timeline import Timeline
from swapmem.files import write_text

# In the order in which they use each other.
_SCRIPTS = ("format.js", "chart.js", "tables.js", "main.js")


def write(run: Run, path: str | os.PathLike[str], iteration: int = -1) -> None:
    """Writes the page.

    Args:
        run: what was loaded.
        path: the file to write.
        iteration: which of the complete iterations in the run's events; the last one unless told.

    Raises:
        OSError: it cannot be written; what was there before still is.
        ValueError: the run has neither events nor a simulation.
        IndexError: it has fewer iterations.

    Example:
        >>> write(load_run("run.json.gz"), "run.html")
    """
    write_text(path, page(run, iteration))


def page(run: Run, iteration: int = -1) -> str:
    """Makes the page; arguments and errors are those of `write`."""
    lines: list[Timeline] = timelines(run, iteration)
    title = text.title(run)
    data = page_data.content(run, lines, iteration)
    return _filled(
        _asset("page.html"),
        {
            "title": html.escape(title),
            "subtitle": html.escape(text.subtitle(run, lines[0])),
            "style": _asset("style.css").strip(),
            "script": "\n".join(_asset(name).strip() for name in _SCRIPTS),
            "text": html.escape(text.explanation(run, lines[0])),
            "data": _json(data),
        },
    )


def timelines(run: Run, iteration: int = -1) -> list[Timeline]:
    """What there is to show of a run, what was measured first.

    Args:
        run: what was loaded.
        iteration: which of the complete iterations in its events.

    Raises:
        ValueError: the run has neither events nor a simulation.
        IndexError: it has fewer iterations.
    """
    found = [measured(run, iteration)] if run.events else []
    if run.trace is not None and run.simulation is not None:
        found.append(simulated(run.trace, run.simulation))
    if not found:
        raise ValueError("the run has neither events nor a simulation: there is nothing to show")
    return found


def _filled(template: str, values: dict[str, str]) -> str:
    # In one pass: a value that looks like a place is left as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], template)


def _json(data: dict[str, Any]) -> str:
    # No name of an op or a block can end the element that holds it.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return resources.files("swapmem.explain").joinpath("page", name).read_text(encoding="utf-8")
