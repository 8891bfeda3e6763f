"""Runs a command's coroutine on Twisted's reactor, and lets its errors out again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import click
from twisted.internet.task import react


def run(main: Callable[[Any], Coroutine[Any, Any, None]], *, until_interrupted: bool = False) -> None:
    """Await `main(reactor)`; raises what it raises, and Abort when it was interrupted.

    `until_interrupted`: a signal is the usual way for it to end.
    """
    outcome: list[Exception | None] = []

    async def guarded(reactor: Any) -> None:
        reactor.addSystemEventTrigger("before", "shutdown", lambda: ended.append(True))
        try:
            await main(reactor)
        except Exception as error:
            if not ended:
                outcome.append(error)
        else:
            outcome.append(None)

    ended: list[bool] = []
    with contextlib.suppress(SystemExit):
        react(guarded)
    if not outcome and not until_interrupted:
        raise click.Abort
    if outcome and outcome[0] is not None:
        raise outcome[0]
