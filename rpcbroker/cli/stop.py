"""How a command ends other than well: a sentence and an exit code."""

from __future__ import annotations

from enum import IntEnum
from typing import IO, Any

import click


class ExitCode(IntEnum):
    """Stable: scripts depend on them."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_LOGGED_IN = 3
    NOT_FOUND = 4
    DEVICE_OFFLINE = 5
    NO_REPLY = 6


class Stop(click.ClickException):
    """Ends the command.

    `reason` is the broker's stable word, `hint` says what to do about it, `more` is a command that tells more.
    """

    def __init__(
        self,
        message: str,
        code: ExitCode = ExitCode.ERROR,
        *,
        reason: str | None = None,
        hint: str | None = None,
        more: str | None = None,
    ) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click's own way
        self.reason = reason
        self.hint = hint
        self.more = more

    def show(self, file: IO[Any] | None = None) -> None:
        """To stderr, a line for each part."""
        click.echo(f"Error: {self.message}", file=file, err=True)
        if self.reason:
            click.echo(f"Reason: {self.reason}", file=file, err=True)
        if self.hint:
            click.echo(f"Hint: {self.hint}", file=file, err=True)
        if self.more:
            click.echo(f"More: {self.more}", file=file, err=True)
