"""A pool with real processes for tests, and what they ask of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.outside.scripts import ScriptPool
from rpcbroker.rules.ports import Language, Script, ScriptFailed

TENANT, OTHER = UUID(int=1), UUID(int=2)
MESSAGE = ({"temperature": 20, "list": [3, 1, 2]}, {"deviceName": "Boiler"}, "POST_TELEMETRY_REQUEST")


def js(source: str) -> Script:
    return Script(Language.JS, source)


def tbel(source: str) -> Script:
    return Script(Language.TBEL, source)


@asynccontextmanager
async def a_pool(
    *, command: Callable[[RulesSettings], Sequence[str]] | None = None, **settings: Any
) -> AsyncIterator[ScriptPool]:
    """It is stopped at the end, and no process is left then."""
    from twisted.internet import reactor

    deadlines = Deadlines(reactor)
    pool = ScriptPool(reactor, reactor, deadlines, lambda: RulesSettings(**settings), command=command)
    try:
        yield pool
    finally:
        pids = pids_of(pool)
        await pool.stop()
        deadlines.stop()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def pids_of(pool: ScriptPool) -> list[int]:
    return [worker.transport.pid for worker in pool._workers if worker.transport is not None]


def open_files(pid: int | None = None) -> dict[str, str]:
    """Number -> what it is, of a process or of this one."""
    place = Path(f"/proc/{pid or 'self'}/fd")
    found = {}
    for each in place.iterdir():
        if each.exists() or each.is_symlink():
            found[each.name] = os.readlink(each)
    return found


async def run(pool: ScriptPool, source: str, *values: Any, tenant: UUID = TENANT) -> Any:
    return await pool.run(tenant, js(source), values or MESSAGE)


async def failure(pool: ScriptPool, source: str, *values: Any, tenant: UUID = TENANT) -> str:
    """The text of the failure that there has to be."""
    return await failing(pool.run(tenant, js(source), values or MESSAGE))


async def failing(waiting: Deferred[Any]) -> str:
    try:
        result = await waiting
    except ScriptFailed as error:
        return str(error)
    raise AssertionError(f"it did not fail, but returned {result!r}")
