"""The path of a message through rule chains, as JSON: of REST, and of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.rules.dry import Path, Step
from rpcbroker.rules.message import RuleMessage


class PassingMessageJSON(msgspec.Struct):
    """A message on its way."""

    type: str
    originator: Annotated[str, Meta(description="the device's name")]
    data: Annotated[str, Meta(description="mostly JSON text")]
    metadata: dict[str, str]


class PathStepJSON(msgspec.Struct, rename="camel"):
    """The message passed a node, and left it under `label`; null: it did not go on, or into another chain."""

    chain: Annotated[str, Meta(description="its name")]
    chain_id: UUID
    index: Annotated[int, Meta(description="of the node in its chain, from 0")]
    node: Annotated[str, Meta(description="its name")]
    type: Annotated[str, Meta(description="of the node")]
    label: str | None
    text: Annotated[str | None, Meta(description="why the node failed")]
    last: Annotated[bool, Meta(description="this branch ends there")]
    would: Annotated[
        list[dict[str, Any]],
        Meta(description="what the node would have done: `do` is call, reply, respond, web, log ..."),
    ]
    message: PassingMessageJSON


class PathJSON(msgspec.Struct):
    """What would become of a message."""

    steps: list[PathStepJSON]
    omitted: Annotated[int, Meta(description="further steps, for which there was no room")]
    answer: Annotated[Any, Meta(description="what who waits for an answer gets; null, too, if it is none")]
    error: Annotated[str | None, Meta(description="what they are told instead")]
    ended: Annotated[bool, Meta(description="false: a node would wait for ever")]
    seconds: Annotated[float, Meta(description="how long its delays would have taken")]


def path_json(path: Path) -> PathJSON:
    return PathJSON(
        steps=[_step_json(step, path.names) for step in path.steps],
        omitted=path.omitted,
        answer=None if path.answer is None else msgspec.Raw(path.answer),
        error=path.error,
        ended=path.ended,
        seconds=path.seconds,
    )


def _step_json(step: Step, names: Mapping[UUID, str]) -> PathStepJSON:
    message = step.message
    return PathStepJSON(
        chain=step.chain,
        chain_id=step.chain_id,
        index=step.index,
        node=step.node,
        type=step.type,
        label=step.label,
        text=step.text,
        last=step.last,
        would=[{"do": deed.kind, **deed.detail} for deed in step.deeds],
        message=PassingMessageJSON(
            type=message.type,
            originator=originator_name(message, names),
            data=message.data.decode(errors="replace"),
            metadata=dict(message.metadata),
        ),
    )


def originator_name(message: RuleMessage, names: Mapping[UUID, str]) -> str:
    """Of what it is about; `names` are those of devices by their ids."""
    kind, its_id = message.originator
    return names.get(its_id) or f"{kind} {its_id}"
