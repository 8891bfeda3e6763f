"""Exported chains in a RuleWorld, with scripts in real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from fakes import TENANT
from rule_world import RuleWorld
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from rpcbroker.core import jsontext
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.model import Device
from rpcbroker.core.questions import Question
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.core.values import json_of, parse_telemetry
from rpcbroker.outside.scripts import ScriptPool
from rpcbroker.rules.chain import Graph
from rpcbroker.rules.format import ChainFile
from rpcbroker.rules.saving import with_chains_moved

EXAMPLES = Path(__file__).parents[2] / "conf/chains"
VECTORS = Path(__file__).parent / "vectors"
LANGUAGES = ["JS", "TBEL"]
PATIENCE = 10.0
"""Seconds within which what processes have to do is done."""


class ExportedWorld(RuleWorld):
    """What scripts have to do takes real time here, so it is waited for."""

    async def install(
        self, path: Path, *, language: str | None = None, chains: Mapping[str, UUID] | None = None
    ) -> Graph:
        """Make what is in the file the root chain, as imports do, with its scripts in this language, if one is named.

        `chains`: old ids of other chains, and those under which they are here.
        """
        file: ChainFile = jsontext.decode_as(ChainFile, path.read_bytes())
        file.metadata = with_chains_moved(file.metadata, chains or {})
        for node in file.metadata.nodes:
            if language and node.configuration and "scriptLang" in node.configuration:
                node.configuration["scriptLang"] = language
        graph = await self.rules.chains.check(TENANT, file.metadata)
        self.put(jsontext.decode(jsontext.encode(file.metadata)), name=file.rule_chain.name)
        return graph

    async def until(self, what: Callable[[], Any]) -> None:
        """Wait until it is so."""
        from twisted.internet import reactor

        for _ in range(int(PATIENCE / 0.005)):
            if what():
                return
            await deferLater(reactor, 0.005)
        raise AssertionError("it has not come")

    async def quiet(self) -> None:
        """Wait until no message is on its way that does not wait for a delay."""
        await self.until(lambda: self.rules.engine.running[TENANT] == self.rules.held[TENANT])

    async def ask(self, method: str, params: bytes = b"null") -> Any:
        """What a question of the device is answered."""
        asked = Question(method=method, params=params, transport="TEST", number=7)
        return jsontext.decode(await maybeDeferred(self.broker.ask, self.session(), asked))

    async def post(self, body: Any, of: Device | None = None) -> None:
        """The device sends telemetry; it goes on when all that comes of it has been done."""
        posted = parse_telemetry(jsontext.encode(body), self.broker.telemetry.settings, now_ms=self.now_ms())
        await maybeDeferred(self.broker.keep_telemetry, self.session(of), posted)
        await self.quiet()

    async def latest(self, *keys: str, of: Device | None = None) -> dict[str, Any]:
        """The newest values of these keys, of those that there are."""
        found = await self.broker.telemetry.latest((of or self.device).id, keys)
        return {key: jsontext.decode(json_of(point.value).encode()) for key, point in found.items()}


@asynccontextmanager
async def exported_world(**more: Any) -> AsyncIterator[ExportedWorld]:
    from twisted.internet import reactor

    deadlines = Deadlines(reactor)  # type: ignore[arg-type]
    pool = ScriptPool(reactor, reactor, deadlines, RulesSettings)  # type: ignore[arg-type]
    try:
        yield ExportedWorld(scripts=pool, **more)
    finally:
        await maybeDeferred(pool.stop)
        deadlines.stop()


def finished(waiting: Deferred[Any]) -> Deferred[Any]:
    """Fires with what it has fired with, also if that is a failure."""
    return waiting.addErrback(lambda failure: failure.value)
