"""Calls of rule nodes to other servers: `rules.ports.WebCalls`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail

from rpcbroker.core.settings import RulesSettings
from rpcbroker.rules.ports import WebCallFailed, WebRequest, WebResponse


class TreqCalls:
    """Calls nobody yet: each fails, and says so."""

    def __init__(self, reactor: Any, *, settings: Callable[[], RulesSettings]) -> None:
        self._settings = settings

    def call(self, request: WebRequest) -> Deferred[WebResponse]:
        return fail(WebCallFailed("This server calls no others"))

    def stop(self) -> None:
        """There is nothing to stop."""
