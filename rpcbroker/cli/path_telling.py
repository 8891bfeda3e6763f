"""The path of a message through rule chains, as people read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from rpcbroker.cli.listing import printable
from rpcbroker.cli.words import counted, lasting, sentence
from rpcbroker.rules import types
from rpcbroker.rules.dry import Path, Step
from rpcbroker.rules.dry_ports import Deed, DeedKind
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.path_format import originator_name

SHOWN = 100
"""Steps that are told, of a message that goes round and round."""
LONGEST = 500
"""Characters of JSON that are told."""

WAITS = {
    types.QUESTION: "The device that asked",
    types.CALL: "The caller",
    types.REST_REQUEST: "Who sent the request",
}
"""Who waits for an answer, by the type of message."""


def _json(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _call(detail: dict[str, Any]) -> str:
    kind = " one-way" if detail["oneway"] else ""
    kept = " persistently" if detail["persistent"] else ""
    return f"call {detail['device']}{kind}{kept}: {detail['method']} {_json(detail['params'])}"


def _to_whom(what: str) -> Callable[[dict[str, Any]], str]:
    def tell(detail: dict[str, Any]) -> str:
        late = "" if detail["waitedFor"] else ", for which nobody waits"
        return f"{what}: {_json(detail['payload'])}{late}"

    return tell


def _telemetry(detail: dict[str, Any]) -> str:
    return f"save telemetry of {detail['device']}: {_json(detail['points'])}"


def _attributes(detail: dict[str, Any]) -> str:
    return f"save attributes of {detail['device']} in {detail['scope']}: {_json(detail['values'])}"


def _web(detail: dict[str, Any]) -> str:
    body = "" if detail["body"] is None else f" with {_json(detail['body'])}"
    return f"send {detail['method']} {detail['url']}{body}"


DEEDS: dict[DeedKind, Callable[[dict[str, Any]], str]] = {
    DeedKind.CALL: _call,
    DeedKind.REPLY: _to_whom("answer the device"),
    DeedKind.RESPOND: _to_whom("answer the request"),
    DeedKind.TELEMETRY: _telemetry,
    DeedKind.ATTRIBUTES: _attributes,
    DeedKind.WEB: _web,
    DeedKind.LOG: lambda detail: f"log: {' '.join(str(detail['text']).split())[:LONGEST]}",
}
"""How each deed goes on after "would"."""


def path_lines(path: Path, type_: str) -> Iterator[str]:
    """A line a step, with what the node would have done below it; at the end what became of the message of `type_`."""
    chain = None
    for step in path.steps[:SHOWN]:
        if step.chain != chain:
            chain = step.chain
            yield printable(f"Chain {chain!r}:")
        yield from (printable(line) for line in _step(step, path.names))
    more = len(path.steps[SHOWN:]) + path.omitted
    if more:
        yield f"... and {counted(more, 'more step')}"
    if not path.steps:
        yield "The chain has no first node: nothing happens."
    if not path.ended:
        yield "A node waits for what will not come; the message goes no further."
    if path.seconds:
        yield f"Delays would have taken {lasting(int(path.seconds * 1000))}."
    if path.answer is not None:
        yield printable(f"{WAITS[type_]} gets: {path.answer.decode(errors='replace')}")
    if path.error is not None:
        yield printable(f"{WAITS[type_]} gets no answer: {sentence(path.error)}")


def _step(step: Step, names: Mapping[UUID, str]) -> Iterator[str]:
    label = "" if step.label is None else f" -> {step.label}"
    text = f": {step.text}" if step.text else ""
    end = " (the end)" if step.last else ""
    yield f"  {step.index}  {step.node}{label}{text}{end}"
    for deed in step.deeds:
        yield f"       would {told(deed)}"
    for change in _changes(step.came, step.message, names):
        yield f"       {change}"


def told(deed: Deed) -> str:
    """`log: ...`, `call lamp: setGpio {"pin":7}`"""
    return DEEDS[deed.kind](deed.detail)


def _changes(before: RuleMessage, after: RuleMessage, names: Mapping[UUID, str]) -> Iterator[str]:
    """What a node made of the message."""
    if after.type != before.type:
        yield f"type: {after.type}"
    if after.originator != before.originator:
        yield f"originator: {originator_name(after, names)}"
    if after.data != before.data:
        data = after.data.decode(errors="replace")
        yield f"data: {data[:LONGEST]}{'...' if len(data) > LONGEST else ''}"
    changed = {key: value for key, value in after.metadata.items() if before.metadata.get(key) != value}
    if changed:
        yield f"metadata: {_json(changed)}"
    gone = [key for key in before.metadata if key not in after.metadata]
    if gone:
        yield f"metadata without {', '.join(gone)}"
