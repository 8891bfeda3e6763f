"""What the checks are about: facts of this machine and of one broker, gathered once; and what a check says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rpcbroker.core.settings import Settings
from rpcbroker.store.examine import Examined


class Level(StrEnum):
    """How bad it is. A broker with a problem does not start, loses something, or lets somebody in."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence, and what to do about it. Never a secret."""

    level: Level
    text: str
    hint: str | None = None


Verdicts = Iterator[Verdict]


def ok(text: str) -> Verdict:
    return Verdict(Level.OK, text)


def warning(text: str, hint: str | None = None) -> Verdict:
    return Verdict(Level.WARNING, text, hint)


def problem(text: str, hint: str | None = None) -> Verdict:
    return Verdict(Level.PROBLEM, text, hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One broker on this machine.

    `store_file` is None for a database on a server, whose `store_name` bears no password; `examined` is None
    when there is no file yet. `holder` is the pid of the broker that runs, empty if unknown; None when none
    runs, and then `endpoints` is empty. `now` is epoch seconds; `synchronised` None when nobody knows.
    `open_files` is how many the broker may open, or this process if none runs; `memory` the bytes that are free.
    """

    settings: Settings
    warnings: tuple[str, ...] = ()
    state_dir: Path
    store_file: Path | None
    store_name: str
    examined: Examined | None
    holder: str | None
    endpoints: Mapping[str, str]
    now: float
    synchronised: bool | None
    open_files: int
    memory: int | None

    @property
    def runs(self) -> bool:
        return self.holder is not None
