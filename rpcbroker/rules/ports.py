"""What nodes reach beyond their chain: interfaces only. `outside` implements those to the world, `rules.estate` the
one to the broker, and `rules.dry` all of them without effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.model import Attribute, Device, Point, Scope
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.core.values import Value
from rpcbroker.rules.message import RuleMessage


class Language(StrEnum):
    """In which a script is written."""

    JS = "JS"
    TBEL = "TBEL"


@dataclass(frozen=True, slots=True)
class Script:
    """The body of a function of `arguments`, such as `return msg.temperature > 20;`."""

    language: Language
    source: str
    arguments: tuple[str, ...] = ("msg", "metadata", "msgType")


class ScriptRefused(ValueError):
    """A script is not accepted; the message names the word that is unknown, or where it cannot be parsed."""


class ScriptFailed(Exception):
    """A script threw, took too long, took too much memory, or was stopped; the message says which."""


class Scripts(Protocol):
    """Runs scripts apart from the broker."""

    def check(self, script: Script) -> Deferred[None]:
        """Fails with ScriptRefused unless it parses, and names only functions that there are."""

    def run(self, tenant_id: UUID, script: Script, values: Sequence[Any]) -> Deferred[Any]:
        """What the script returns for these values of its arguments, which JSON can have. Fails with ScriptFailed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest:
    """One HTTP request of a node. `url` is ASCII, without a fragment; times are seconds, sizes bytes of a body."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float
    """For all of it: its turn, the connection, and the whole response."""
    max_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebResponse:
    """Any response, also a 404 or a redirect, which is not followed: only what is no response is a failure."""

    status: int
    reason: str
    headers: Mapping[str, tuple[str, ...]]
    """Each name once, as `Content-Type`; mostly it has one value."""
    body: bytes


class WebCallFailed(Exception):
    """There was no response, or not all of it; the message says why. Another time there may be one."""


class WebCallRefused(WebCallFailed):
    """The same request will not do better: its host is not allowed, or its response too large."""


class WebCalls(Protocol):
    """Calls other servers."""

    def call(self, tenant_id: UUID, request: WebRequest) -> Deferred[WebResponse]:
        """Fails with WebCallFailed: no connection, no response in time, one that is too large, too many calls wait; and
        with WebCallRefused."""


MAX_RELATED = 1_000
"""Devices that one message may be sent on to along relations."""


class Direction(StrEnum):
    """Of a relation, seen from the originator."""

    FROM = "FROM"
    TO = "TO"


class Estate(Protocol):
    """The devices of one tenant, as its chains may reach them. Deferreds fail with BrokerErrors."""

    def device(self, device_id: UUID) -> Deferred[Device | None]: ...

    def device_named(self, name: str) -> Deferred[Device | None]: ...

    def related(self, device_id: UUID, direction: Direction, relation: str, *, levels: int) -> Deferred[list[UUID]]:
        """Devices that are related so, nearest first, each once, over at most `levels` relations; "" is any type.

        Of more than MAX_RELATED one more than these.
        """

    def call(self, message: RuleMessage, wanted: WantedCall) -> Deferred[bytes]:
        """Call the message's device; the reply's JSON text: `{}` for one-way, `{"rpcId":"..."}` for persistent ones.

        If `message` stands for the call of a caller who waits, the caller gets the outcome, too. Fails with CallFailed.
        """

    def reply(self, session_id: str, request_id: str, payload: bytes) -> None:
        """Answer a question of a device. What nobody waits for is dropped, and counted."""

    def answer_itself(self, message: RuleMessage) -> bytes | Deferred[bytes] | None:
        """What the broker itself answers to the question that `message` is; None if it does not know the method.

        The answer is not sent: that is `reply`'s.
        """

    def respond(self, request_id: str, payload: bytes) -> None:
        """Answer a request that came over REST. What nobody waits for is dropped."""

    def save_telemetry(self, device_id: UUID, data: bytes, *, time: int) -> Deferred[None] | None:
        """Keep `{"k":v}` or what else devices post, without a time of its own at `time` (epoch ms); None: it is kept.

        Raises jsontext.BadJSON for what cannot be read or says nothing, and, or fails with, BrokerErrors.
        """

    def save_attributes(
        self, device_id: UUID, scope: Scope, data: bytes, *, tell: bool, only_changed: bool
    ) -> Deferred[Mapping[str, Value]]:
        """Store `{"k":v}`; fires with what was written. `tell`: the device hears of shared ones. `only_changed`:
        what stands there already is not written again. Raises and fails as `save_telemetry`."""

    def attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[tuple[Attribute, ...]]:
        """Those that there are; no keys are all. The server's have what the broker knows of the device's presence."""

    def latest(self, device_id: UUID, keys: Sequence[str]) -> Deferred[Mapping[str, Point]]: ...

    def history(
        self, device_id: UUID, keys: Sequence[str], *, start: int, end: int
    ) -> Deferred[Mapping[str, list[Point]]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCall:
    """What a message asks of its device. `params` is JSON text. Times are epoch ms, `timeout` seconds."""

    method: str
    params: bytes
    oneway: bool
    persistent: bool
    expiration_time: int | None
    timeout: float
    retries: int | None
    additional_info: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSurroundings:
    """What the nodes of one tenant's chains are given when they are made."""

    tenant_id: UUID
    estate: Estate
    scripts: Scripts
    web: WebCalls
    deadlines: Deadlines
    now_ms: Callable[[], int]
    new_uuid: Callable[[], UUID]
    settings: Callable[[], RulesSettings]
    log: Callable[[str, str, bool], None]
    """Of a log node: its name, its text, and whether that is the usual one, which has the whole message."""
    held: Counter[UUID] = field(default_factory=Counter)
    """Tenant -> messages that its delay nodes hold, in all its chains."""
