"""Is it alive, is it ready, which version is it."""

from __future__ import annotations

from rpcbroker import __version__
from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.core.ports import Store
from rpcbroker.schema.health import HealthJSON, VersionJSON


class Health:
    """The handlers that probes ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.stopping = False

    async def healthy(self) -> HealthJSON:
        """Whether the server runs: it answers."""
        return HealthJSON("ok")

    async def ready(self) -> HealthJSON:
        """Whether calls are taken and the store answers; if not, 503."""
        if self.stopping:
            raise Unavailable("The server is shutting down", reason=Reason.SHUTTING_DOWN)
        await self._store.ping()
        return HealthJSON("ready")

    async def version(self) -> VersionJSON:
        """Which version it is."""
        return VersionJSON("rpcbroker", __version__)
