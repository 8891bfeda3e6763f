"""A node that makes messages by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import BrokerError
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import DEVICE, RULE_NODE, TENANT, Originator, RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.scripts import ScriptConfiguration, changed, run
from rpcbroker.rules.ports import Script
from rpcbroker.rules.types import FAILURE, SUCCESS

MAX_GENERATORS = 10
"""In a chain: each may run a script every second, whatever else happens."""


class GeneratorConfiguration(ScriptConfiguration, rename="camel"):
    """A message every `periodInSeconds`, `msgCount` in all (0 is no end), about a device, the tenant, or the node."""

    msg_count: int = 0
    period_in_seconds: int = 1
    originator_id: str | None = None
    originator_type: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.msg_count < 0:
            raise ValueError("msgCount is negative")
        if not 1 <= self.period_in_seconds <= 1_000_000_000:
            raise ValueError("periodInSeconds is at least 1")
        if self.originator_type not in (None, "", DEVICE, TENANT, RULE_NODE):
            raise ValueError(f"originatorType {self.originator_type!r}: DEVICE, TENANT and RULE_NODE are known here")
        if self.originator_type == DEVICE:
            try:
                UUID(self.originator_id or "")
            except ValueError:
                raise ValueError("originatorId is no UUID") from None

    @property
    def script(self) -> Script:
        return replace(super().script, arguments=("prevMsg", "prevMetadata", "prevMsgType"))


class GeneratorNode:
    """Makes messages by a script, to which it gives the last one that it made.

    A script that fails, or a device that is gone, makes a message under Failure, with `error` in its metadata.
    """

    _log = Logger()

    def __init__(self, configuration: GeneratorConfiguration, place: Place) -> None:
        self._script = configuration.script
        self._period = configuration.period_in_seconds
        self._left = configuration.msg_count or None
        self._around = place.around
        self._last = RuleMessage(
            id=place.id,
            type="",
            originator=_originator(configuration, place),
            data=b"{}",
            metadata={},
            time=0,
        )
        self._next: Deadline | None = None
        self._emit: Callable[[Out], None] | None = None

    def __call__(self, message: RuleMessage) -> Outcome:
        raise NodeFailed("A generator makes messages, and takes none")

    def start(self, emit: Callable[[Out], None]) -> None:
        """The first message comes one period from now."""
        self._emit = emit
        self._wait()

    def stop(self) -> None:
        """No message comes any more, not even one that is being made."""
        self._emit = None
        if self._next is not None:
            self._next.cancel()

    def _wait(self) -> None:
        self._next = self._around.deadlines.after(self._period, self._make, None)

    def _make(self, _: None) -> None:
        Deferred.fromCoroutine(self._made()).addCallbacks(self._made_one, self._broke)

    async def _made(self) -> Out:
        last = replace(self._last, id=self._around.new_uuid(), time=self._around.now_ms())
        try:
            if last.originator.is_device and await self._around.estate.device(last.originator.id) is None:
                raise NodeFailed("There is no such device")
            made = changed(await run(self._around, self._script, last), last)
        except (NodeFailed, BrokerError) as error:
            text = error.text if isinstance(error, NodeFailed) else error.message
            return Out(FAILURE, replace(last, metadata={**last.metadata, "error": text}))
        self._last = made
        return Out(SUCCESS, made)

    def _made_one(self, out: Out) -> None:
        emit = self._emit
        if emit is None:
            return
        if self._left is not None:
            self._left -= 1
        if self._left != 0:
            self._wait()
        emit(out)

    def _broke(self, failure: object) -> None:
        self._log.failure("a generator met a bug, and has ended", failure=failure)


def _originator(configuration: GeneratorConfiguration, place: Place) -> Originator:
    if configuration.originator_type == DEVICE:
        return Originator(DEVICE, UUID(configuration.originator_id or ""))
    if configuration.originator_type == TENANT:
        return Originator(TENANT, place.around.tenant_id)
    return Originator(RULE_NODE, place.id)


GENERATOR = NodeType(
    name="org.thingsboard.rule.engine.debug.TbMsgGeneratorNode",
    configuration=GeneratorConfiguration,
    make=GeneratorNode,
    labels=(SUCCESS, FAILURE),
    begins=True,
    scripts=lambda configuration: (configuration.script,),
    most=MAX_GENERATORS,
)
