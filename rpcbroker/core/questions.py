"""What a device asks the server (client-side RPC), and what the broker itself answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest


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


class OwnAnswers:
    """What the broker answers by itself, where no rule chain does."""

    def __init__(self, attributes: AttributesOfDevice, now_ms: Callable[[], int]) -> None:
        self._attributes = attributes
        self._answers: dict[str, Callable[[UUID, Question], bytes | Deferred[bytes]]] = {
            "getCurrentTime": lambda device_id, question: b"%d" % now_ms(),
            "ping": lambda device_id, question: b'"pong"',
            "getAttributes": self._get_attributes,
            "getMethods": lambda device_id, question: self._get_methods(question),
        }

    def answer(self, device_id: UUID, question: Question) -> bytes | Deferred[bytes] | None:
        """JSON text; None if the method is not known. Raises InvalidRequest for params that cannot be."""
        answer = self._answers.get(question.method)
        if answer is not None:
            return answer(device_id, question)
        own = question.own.get(question.method)
        return None if own is None else own()

    def _get_methods(self, question: Question) -> bytes:
        return jsontext.encode(sorted({*self._answers, *question.own}))

    def _get_attributes(self, device_id: UUID, question: Question) -> Deferred[bytes]:
        """Params as in a request for attributes: `{"clientKeys":"a,b","sharedKeys":"c"}`; neither is all."""
        try:
            wanted = jsontext.decode_as(_AttributesWanted | None, question.params) or _AttributesWanted()
        except jsontext.BadJSON as error:
            raise InvalidRequest(f"getAttributes takes clientKeys and sharedKeys: {error}") from None
        everything = wanted.client_keys is None and wanted.shared_keys is None
        client, shared = ((), ()) if everything else (_split(wanted.client_keys), _split(wanted.shared_keys))
        found = Deferred.fromCoroutine(self._attributes(device_id, client, shared))
        return found.addCallback(_halves)


def _split(keys: str | None) -> tuple[str, ...] | None:
    return None if keys is None else tuple(key for key in (each.strip() for each in keys.split(",")) if key)


def _halves(halves: tuple[Mapping[str, Any], Mapping[str, Any]]) -> bytes:
    return jsontext.encode(dict(zip(("client", "shared"), halves, strict=True)))
