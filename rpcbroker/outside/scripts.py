"""Scripts of rule nodes, apart from the broker: `rules.ports.Scripts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed

from rpcbroker.core.settings import RulesSettings
from rpcbroker.rules.ports import Script, ScriptFailed


class ScriptPool:
    """Runs none yet: each fails, and says so."""

    def __init__(self, reactor: Any, *, settings: Callable[[], RulesSettings]) -> None:
        self._settings = settings

    def check(self, script: Script) -> Deferred[None]:
        return succeed(None)

    def run(self, tenant_id: UUID, script: Script, values: Sequence[Any]) -> Deferred[Any]:
        return fail(ScriptFailed("This server runs no scripts"))

    def stop(self) -> None:
        """There is nothing to stop."""
