"""Takes a message through chains without effects: nothing is called, saved, answered or asked of other servers.

What would have been is told instead. Scripts run for real, and waiting costs no time: when nothing else is left, the
clock of a dry run goes on to what is due next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rpcbroker.core import jsontext
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import Device
from rpcbroker.core.routes import nobody_answers
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules import types
from rpcbroker.rules.accepted import accepted
from rpcbroker.rules.active import ActiveChain, activate
from rpcbroker.rules.chain import ChainRefused, Graph
from rpcbroker.rules.dry_ports import CountedScripts, Deed, DeedKind, DryDevice, DryEstate, DryMessage, DryWeb
from rpcbroker.rules.engine import Engine, Passed, Run, shown
from rpcbroker.rules.format import ChainFile
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage
from rpcbroker.rules.messages import SERVICE
from rpcbroker.rules.ports import RuleSurroundings, Scripts

CALL_LASTS = 10_000
"""Milliseconds that a call, or a request of an application, has in a dry run, if its message does not say it."""
MAX_KEPT = 8 << 20
"""Bytes of messages in the steps that are kept: a chain may make a new large one in each of thousands of steps."""
STEP = 1_000
"""Bytes that a step takes beside its message, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The message passed a node of a chain, and left it under `label`; None: it did not go on, or into another chain.

    `text` says why a node failed; `last`: this branch has ended. `deeds` is what the node would have done.
    """

    chain: str
    chain_id: UUID
    index: int
    node: str
    type: str
    label: str | None
    came: RuleMessage
    message: RuleMessage
    text: str | None
    last: bool
    deeds: tuple[Deed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What became of a message.

    `answer` is the JSON text that the device that asked, or the caller, gets; `error` is what they are told if they get
    none. Both are None of messages that nobody waits for. `ended` is False if a node would wait for ever. `seconds`
    is how long delays would have taken. `names` are those of the devices. `omitted` counts further steps, for which
    there was no room.
    """

    steps: tuple[Step, ...]
    omitted: int
    answer: bytes | None
    error: str | None
    ended: bool
    seconds: float
    names: Mapping[UUID, str]


class DryRun:
    """One run of one message through `chains`: it begins at the first of them, and may enter the others.

    The root chain, to nodes that enter that, is the one that says so, else the first. `now_ms` is when it begins.
    """

    def __init__(
        self,
        chains: Sequence[ChainFile],
        given: DryMessage,
        *,
        scripts: Scripts,
        now_ms: int,
        new_uuid: Callable[[], UUID],
        settings: RulesSettings,
        tenant_id: UUID | None = None,
    ) -> None:
        """`tenant_id` is whose scripts run; a made-up tenant's if there is none."""
        self._chains = chains
        self._given = given
        self._began = now_ms
        self._new_uuid = new_uuid
        self._settings = settings
        self._clock = Clock()
        self._scripts = CountedScripts(scripts)
        self._tenant_id = tenant_id or new_uuid()
        self._steps: list[Step] = []
        self._room = MAX_KEPT
        self._omitted = 0
        self._left = False
        self._deeds: list[Deed] = []
        self._made: dict[UUID, ActiveChain] = {}
        self._root: ActiveChain | None = None
        devices = [self._device(each) for each in (given.originator, *given.related)]
        self._message = self._first(devices[0])
        self._estate = DryEstate(
            given=given,
            message=self._message,
            devices={device.id: device for device in devices},
            do=self._deeds.append,
            now_ms=self._now_ms,
            new_uuid=new_uuid,
        )
        self.around = RuleSurroundings(
            tenant_id=self._tenant_id,
            estate=self._estate,
            scripts=self._scripts,
            web=DryWeb(given.web_status, jsontext.encode(given.web_reply), self._deeds.append),
            deadlines=Deadlines(self._clock),
            now_ms=self._now_ms,
            new_uuid=new_uuid,
            settings=lambda: settings,
            log=lambda name, text, usual: self._deeds.append(Deed(DeedKind.LOG, {"text": text})),
        )

    async def run(self) -> Path:
        """Take the message through. Raises ChainRefused, which names the chain, and jsontext.BadJSON."""
        first = await self._make()
        engine = Engine(
            lambda _, chain_id: self._root if chain_id is None else self._made.get(chain_id),
            max_hops=lambda: 0 if self._left else self._settings.max_hops,
            max_messages=lambda: 1,
            max_size=lambda: self._settings.max_messages_size,
            watches=lambda node: False,
            tell=lambda passed: None,
        )
        run = engine.begin(self._tenant_id, self._message, watch=self._passed, chain=first)
        try:
            while not run.ended:
                if self._scripts.running:
                    await self._scripts.one_more()
                elif self._clock.calls:
                    self._clock.advance(self._clock.calls[0].getTime() - self._clock.seconds())
                else:
                    break
        finally:
            self._left = True  # who cancels it wants no more of it: what a script gives now goes nowhere
            for chain in self._made.values():
                chain.stop()
        await self._nobody_answered(run)
        told = self._estate.told
        return Path(
            steps=tuple(self._steps),
            omitted=self._omitted,
            answer=told.answer,
            error=told.error,
            ended=run.ended,
            seconds=self._clock.seconds(),
            names={device.id: device.name for device in self._estate.devices.values()},
        )

    async def _make(self) -> ActiveChain:
        for each in self._chains:
            graph = await self._accepted(each)
            chain_id = UUID(each.rule_chain.id.id) if each.rule_chain.id else self._new_uuid()
            made = activate(graph, chain_id=chain_id, name=each.rule_chain.name, around=self.around)
            self._made[chain_id] = made
            if each.rule_chain.root and self._root is None:
                self._root = made
        first = next(iter(self._made.values()))
        self._root = self._root or first
        return first

    async def _accepted(self, each: ChainFile) -> Graph:
        try:
            return await accepted(each.metadata, self._scripts, self.around)
        except ChainRefused as error:
            raise ChainRefused(f"{each.rule_chain.name!r}: {error.message}") from None

    async def _nobody_answered(self, run: Run) -> None:
        """What is told to who waited, where no node answered: as the broker does it."""
        told = self._estate.told
        if told.yet:
            return
        if self._message.type == types.QUESTION:
            try:
                own = self._estate.own_answer()
                told.answer = await own if isinstance(own, Deferred) else own
            except BrokerError as error:
                told.error = error.message
            if not told.yet:
                told.error = nobody_answers(str(self._estate.asked.get("method")), shown(run.faults)).message
        elif self._message.type == types.CALL:
            told.error = "no node gives the call to its device: it would expire, with the reason NOT_FORWARDED"
        elif self._message.type == types.REST_REQUEST:
            told.error = "no node answers the request: it would time out"

    def _passed(self, passed: Passed) -> None:
        deeds, self._deeds[:] = tuple(self._deeds), ()
        if self._room <= 0:
            self._omitted += 1
            return
        went = passed.went
        self._room -= STEP + len(went.data) + sum(len(key) + len(value) for key, value in went.metadata.items())
        self._steps.append(
            Step(
                chain=passed.chain.name,
                chain_id=passed.chain.id,
                index=passed.node.index,
                node=passed.node.name,
                type=passed.node.type,
                label=passed.label,
                came=passed.came,
                message=passed.went,
                text=passed.text,
                last=passed.last,
                deeds=deeds,
            )
        )

    def _now_ms(self) -> int:
        return self._began + int(self._clock.seconds() * 1000)

    def _device(self, given: DryDevice) -> Device:
        return Device(
            id=given.id or self._new_uuid(),
            tenant_id=self._tenant_id,
            name=given.name,
            type=given.type,
            created_time=self._began,
            additional_info=given.additional_info,
        )

    def _first(self, device: Device) -> RuleMessage:
        usual = {"deviceName": device.name, "deviceType": device.type}
        until = str(self._began + CALL_LASTS)
        if self._given.type == types.QUESTION:
            usual |= {"requestId": "1", "serviceId": SERVICE, "sessionId": str(self._new_uuid())}
        elif self._given.type == types.CALL:
            usual |= {"requestUUID": str(self._new_uuid()), "originServiceId": SERVICE, "expirationTime": until}
            usual |= {"oneway": "false", "persistent": "false"}
        elif self._given.type == types.REST_REQUEST:
            usual |= {"requestUUID": str(self._new_uuid()), "serviceId": SERVICE, "expirationTime": until}
        elif self._given.type == types.TELEMETRY:
            usual["ts"] = str(self._began)
        elif self._given.type == types.ATTRIBUTES:
            usual["notifyDevice"] = "false"
        return RuleMessage(
            id=self._new_uuid(),
            type=self._given.type,
            originator=Originator(DEVICE, device.id),
            data=jsontext.encode(self._given.data),
            metadata=usual | self._given.metadata,
            time=self._began,
        )
