"""What goes straight is just what the chain would do: over the default chain and all ready-made ones, both ways give
the same replies, states and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exported import EXAMPLES, ExportedWorld, exported_world
from fakes import EPOCH_MS, TENANT
from pytest_twisted import ensureDeferred
from rule_world import CALL, DELAY, SWITCH, TYPE_FILTER, RuleWorld, graph
from twisted.internet.defer import Deferred, maybeDeferred

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, Step
from rpcbroker.core.events import CallAdvanced, CallOpened, CallProgressed, CallRefused, CallSettled, QuestionAnswered
from rpcbroker.core.model import PageLink

CHAINS: list[Path | None] = [None, *sorted(EXAMPLES.glob("*.json"))]
STRAIGHT = {None, "current-time", "door-access", "webhook"}
"""Chains that give calls to their devices and do no more."""


class Seen:
    """What can be seen of calls from outside, without ids, which are other ones each time."""

    def __init__(self, world: ExportedWorld) -> None:
        self.world = world
        self.events: list[Any] = []
        listen = world.broker.events.listen
        listen(CallOpened, lambda event: self._note(event, event.call.method))
        listen(CallAdvanced, lambda event: self._note(event, event.state))
        listen(CallProgressed, lambda event: self._note(event, event.payload))
        listen(CallRefused, lambda event: self._note(event, event.reason))
        listen(CallSettled, lambda event: self._note(event, event.state, event.reason, event.payload, event.transport))
        listen(QuestionAnswered, lambda event: self._note(event, event.method, event.reason))

    def _note(self, event: Any, *what: Any) -> None:
        self.events.append((type(event).__name__, *what))

    async def quiet(self) -> None:
        """Wait until all messages wait for a delay, or for a device."""
        world = self.world

        def waits() -> bool:
            running, held = world.rules.engine.running[TENANT], world.rules.held[TENANT]
            return running <= held + world.broker.pending_count

        await world.until(waits)

    async def outcome(self, waiting: Deferred[Any], *, after: float = 0.0) -> Any:
        """How it ends, when so many seconds have passed."""
        ended: list[Any] = []
        waiting.addBoth(ended.append)
        await self.quiet()
        self.world.clock.advance(after)
        self.world.clock.advance(1.1)
        await self.quiet()
        assert ended, "it has not ended"
        error = getattr(ended[0], "value", None)
        if error is not None:
            return type(error), getattr(error, "message", str(error)), getattr(error, "reason", None)
        return getattr(ended[0], "payload", ended[0]), getattr(ended[0], "kept", None)

    async def all_of_it(self) -> list[Any]:
        """Calls, telemetry, attributes and questions, one after the other."""
        world = self.world
        found: list[Any] = []

        async def called(after: float = 0.0, **more: Any) -> None:
            request = CallRequest(**{"method": "get", "params": b'{"a":[1]}', "timeout": 10} | more)
            found.append(await self.outcome(world.call(request), after=after))

        await called(connect_timeout=0)
        await called(connect_timeout=2, after=2)
        await called(after=10)
        await called(expiration_time=EPOCH_MS - 1)
        await called(persistent=True)
        link = world.link(reply=b'{"x":1}')
        await self.quiet()
        for more in ({}, {"oneway": True}, {"persistent": True}, {"persistent": True, "oneway": True}):
            await called(**more)
        found.append([(call.method, call.params, call.oneway, call.persistent, call.wire_id) for call in link.calls])
        link.reply, link.step = None, None
        await called(after=10)
        link.step = Step.WRITTEN
        await called(after=10, oneway=True, persistent=True)
        waiting = world.call(CallRequest(method="slow", timeout=10))
        await self.quiet()
        link.session.progress(link.calls[-1].wire_id, b"50")
        link.session.receive(link.calls[-1].wire_id, b'{"error":"no"}')
        found.append(await self.outcome(waiting))
        for values in ({"t": 5, "humidity": 1}, {"t": 6}):
            posted = world.broker.telemetry.parse(jsontext.encode(values))
            found.append(await self.outcome(maybeDeferred(world.broker.keep_telemetry, world.session(), posted)))
            told = maybeDeferred(world.broker.keep_attributes, world.session(), dict(values))
            found.append((await self.outcome(told))[1])
        return found + await self._stored()

    async def _stored(self) -> list[Any]:
        """What is left of it all."""
        world, device_id = self.world, self.world.device.id
        kept = await world.store.calls.of_device(device_id, PageLink(page_size=100))
        keys = await world.broker.telemetry.keys(device_id)
        latest = await world.broker.telemetry.latest(device_id, keys)
        attributes = await world.broker.attributes.read(device_id)
        records = list(world.broker.recorder.newest_first())
        return [
            [(each.call.method, each.record.state, each.response) for each in kept.items],
            {key: (point.ts, bytes(point.value)) for key, point in latest.items()},
            [(each.scope, each.key, each.updated_time, bytes(each.value)) for each in attributes],
            [(each.method, each.state, each.reason, each.ended_time, each.device_error) for each in records],
        ]


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.stem if path else "default")
@ensureDeferred
async def test_both_ways_give_the_same(path: Path | None) -> None:
    both = []
    for direct in (True, False):
        async with exported_world(direct=direct) as world:
            if path is not None:
                await world.install(path)
            routes = world.broker.rules.routes(world.device.tenant_id)
            assert routes.calls is (direct and (path.stem if path else None) in STRAIGHT)
            seen = Seen(world)
            both.append((await seen.all_of_it(), seen.events))
            assert len(world.rules.submissions) == 0
    straight, through = both
    assert straight[0] == through[0]
    assert straight[1] == through[1]
    assert {event[0] for event in straight[1]} >= {"CallOpened", "CallAdvanced", "CallRefused", "CallSettled"}


TO_DEVICE = (0, 1, "RPC Request to Device")


@pytest.mark.parametrize(
    ("chain", "straight"),
    [
        (graph([(SWITCH, "S", {}), (CALL, "C", {})], TO_DEVICE), True),
        (graph([(CALL, "C", {})]), True),
        (graph([(SWITCH, "S", {}), (CALL, "C", {}), (TYPE_FILTER, "F", {})], TO_DEVICE, (1, 2, "Success")), False),
        (
            graph([(SWITCH, "S", {}), (CALL, "C", {}), (CALL, "D", {})], TO_DEVICE, (0, 2, "RPC Request to Device")),
            False,
        ),
        (graph([(SWITCH, "S", {}), (DELAY, "D", {}), (CALL, "C", {})], TO_DEVICE, (1, 2, "Success")), False),
        (graph([(SWITCH, "S", {})]), False),
        (graph([]) | {"firstNodeIndex": None}, False),
    ],
)
def test_which_chains_only_give_calls_to_devices(chain: Any, straight: bool) -> None:
    world = RuleWorld()
    world.put(chain)
    assert world.broker.rules.routes(world.device.tenant_id).calls is straight
