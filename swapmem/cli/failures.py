"""How a command ends that could not do what it was asked for: one line, and an exit status."""

from __future__ import annotations

import click


class Failure(click.ClickException):
    """Something failed; exit status 1."""


class BadInput(Failure):
    """What was asked for makes no sense here; exit status 2."""

    exit_code = 2
