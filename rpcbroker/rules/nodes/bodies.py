"""What nodes read of the data of messages, and several messages that become of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from rpcbroker.core import jsontext
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import Out, Outcome
from rpcbroker.rules.types import SUCCESS

NO_DEVICE = "Message originator is not a device entity!"
MAX_MESSAGES = 1_000
"""Messages that one node may make of one."""
MAX_METADATA = 1 << 20
"""Characters of the metadata of a message: they grow with each node that adds some, and every script gets them."""


def require_device(message: RuleMessage) -> None:
    """Raises NodeFailed, in ThingsBoard's words, if the message is about no device."""
    if not message.originator.is_device:
        raise NodeFailed(NO_DEVICE)


def body_of(message: RuleMessage) -> Any:
    """The value of the message's data. Raises NodeFailed."""
    try:
        return message.body()
    except jsontext.BadJSON as error:
        raise NodeFailed(f"The message is not JSON: {error}") from None


def object_of(message: RuleMessage) -> dict[str, Any]:
    """The message's data, which have to be an object. Raises NodeFailed."""
    body = body_of(message)
    if type(body) is not dict:
        raise NodeFailed("The message is not a JSON object")
    return body


def with_metadata(message: RuleMessage, more: Mapping[str, str]) -> RuleMessage:
    """The message with these beside, or in the place of, those that it has. Raises NodeFailed if that is too much."""
    metadata = {**message.metadata, **more}
    if sum(map(len, metadata)) + sum(map(len, metadata.values())) > MAX_METADATA:
        raise NodeFailed(f"The metadata would have more than {MAX_METADATA:,} characters")
    return replace(message, metadata=metadata)


_KINDS = {type(None): "nothing", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "an array"}


def kind_of(value: Any) -> str:
    """What a value is, in plain words."""
    return _KINDS.get(type(value), "an object")


def several(messages: Sequence[RuleMessage], new_uuid: Callable[[], UUID]) -> Outcome:
    """All that was made of one message goes on under Success; each but the first gets an id of its own.

    Raises NodeFailed if that is too much.
    """
    if len(messages) > MAX_MESSAGES:
        raise NodeFailed(f"More than {MAX_MESSAGES:,} messages would become of one")
    return tuple(Out(SUCCESS, replace(each, id=new_uuid()) if number else each) for number, each in enumerate(messages))
