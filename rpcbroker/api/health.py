"""Is it alive, is it ready, which version is it."""

from __future__ import annotations

from rpcbroker import __version__
from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.core.ports import Store


class Health:
    """The handlers that probes ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.stopping = False

    async def healthy(self) -> dict[str, str]:
        """The reactor answers."""
        return {"status": "ok"}

    async def ready(self) -> dict[str, str]:
        """Calls are taken and the store answers. Raises Unavailable."""
        if self.stopping:
            raise Unavailable("The server is shutting down", reason=Reason.SHUTTING_DOWN)
        await self._store.ping()
        return {"status": "ready"}

    async def version(self) -> dict[str, str]:
        return {"name": "rpcbroker", "version": __version__}
