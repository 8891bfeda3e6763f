"""Where the command line runs the scripts of rule chains: in a child process, as the broker does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.outside.scripts import ScriptPool
from rpcbroker.rules.ports import Scripts


@asynccontextmanager
async def scripts(reactor: Any, settings: RulesSettings) -> AsyncIterator[Scripts]:
    """They can be run inside; then their processes end. None is started before the first script."""
    deadlines = Deadlines(reactor)
    pool = ScriptPool(reactor, reactor, deadlines, lambda: settings)
    try:
        yield pool
    finally:
        await pool.stop()
        deadlines.stop()
