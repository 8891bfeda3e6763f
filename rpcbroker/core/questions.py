"""What a device asks the server (client-side RPC), and what the broker answers, or has an application answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import Device


class QuestionText(msgspec.Struct):
    """A question as devices write it. `params` is JSON text."""

    method: str
    params: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of a device.

    `params` is JSON text. `transport` is the protocol that it came over, `number` the device's own number for it,
    0 where there is none. `own` are the answers that only the transport knows. `timeout` is how long it waits, None
    is as long as the settings say. `late` takes an answer that comes when the question was answered before.
    """

    method: str
    params: bytes = b"null"
    transport: str
    number: int = 0
    own: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    timeout: float | None = None
    late: Callable[[bytes], None] | None = None


class _AttributesWanted(msgspec.Struct, rename="camel"):
    client_keys: str | None = None
    shared_keys: str | None = None


AttributesOfDevice = Callable[
    [UUID, Sequence[str] | None, Sequence[str] | None], Coroutine[Any, Any, tuple[Mapping[str, Any], Mapping[str, Any]]]
]
"""As Attributes.of_device."""


class Applications(Protocol):
    """Those of all tenants that answer questions."""

    def answer(self, device: Device, question: Question) -> Deferred[bytes] | None:
        """JSON text; None if no application of the device's tenant knows the method.

        Fails with CallFailed as the application says it, or if it is gone, and with QuestionTimedOut.
        """

    def methods(self, tenant_id: UUID) -> Iterable[str]:
        """All that applications of this tenant answer."""


class OwnAnswers:
    """What the broker answers, where no rule chain does: by itself, or by an application that offers the method."""

    def __init__(self, attributes: AttributesOfDevice, now_ms: Callable[[], int]) -> None:
        self.applications: Applications | None = None
        """Put here by who assembles the broker."""
        self._attributes = attributes
        self._answers: dict[str, Callable[[Device, Question], bytes | Deferred[bytes]]] = {
            "getCurrentTime": lambda device, question: b"%d" % now_ms(),
            "ping": lambda device, question: b'"pong"',
            "getAttributes": self._get_attributes,
            "getMethods": self._get_methods,
        }

    def answer(self, device: Device, question: Question) -> bytes | Deferred[bytes] | None:
        """JSON text; None if the method is not known. Raises InvalidRequest for params that cannot be."""
        answer = self._answers.get(question.method)
        if answer is not None:
            return answer(device, question)
        own = question.own.get(question.method)
        if own is not None:
            return own()
        return None if self.applications is None else self.applications.answer(device, question)

    def _get_methods(self, device: Device, question: Question) -> bytes:
        offered = () if self.applications is None else self.applications.methods(device.tenant_id)
        return jsontext.encode(sorted({*self._answers, *question.own, *offered}))

    def _get_attributes(self, device: Device, question: Question) -> Deferred[bytes]:
        """Params as in a request for attributes: `{"clientKeys":"a,b","sharedKeys":"c"}`; neither is all."""
        try:
            wanted = jsontext.decode_as(_AttributesWanted | None, question.params) or _AttributesWanted()
        except jsontext.BadJSON as error:
            raise InvalidRequest(f"getAttributes takes clientKeys and sharedKeys: {error}") from None
        everything = wanted.client_keys is None and wanted.shared_keys is None
        client, shared = ((), ()) if everything else (_split(wanted.client_keys), _split(wanted.shared_keys))
        found = Deferred.fromCoroutine(self._attributes(device.id, client, shared))
        return found.addCallback(_halves)


def _split(keys: str | None) -> tuple[str, ...] | None:
    return None if keys is None else tuple(key for key in (each.strip() for each in keys.split(",")) if key)


def _halves(halves: tuple[Mapping[str, Any], Mapping[str, Any]]) -> bytes:
    return jsontext.encode(dict(zip(("client", "shared"), halves, strict=True)))
