"""Where the command line runs the scripts of rule chains: in a child process, as the broker does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from rpcbroker.rules.ports import ScriptFailed, Scripts


class _NoScripts:
    def check(self, script: Any) -> Deferred[None]:
        return succeed(None)

    def run(self, tenant_id: Any, script: Any, values: Any) -> Deferred[Any]:
        return fail(ScriptFailed("scripts cannot be run here yet"))


@asynccontextmanager
async def scripts(reactor: Any) -> AsyncIterator[Scripts]:
    """They can be run inside; then their process ends."""
    yield _NoScripts()
