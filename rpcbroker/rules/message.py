"""What passes a rule chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from rpcbroker.core import jsontext

DEVICE, CUSTOMER, TENANT, RULE_NODE, USER = "DEVICE", "CUSTOMER", "TENANT", "RULE_NODE", "USER"
"""What a message may be about, as ThingsBoard calls it."""


class Originator(NamedTuple):
    """What a message is about: mostly a device. `kind` is ThingsBoard's entityType."""

    kind: str
    id: UUID

    @property
    def is_device(self) -> bool:
        return self.kind == DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleMessage:
    """One message. Nodes make others of it with `dataclasses.replace`, and never change one.

    `data` is JSON text, unless a node made something else of it. `time` is epoch ms.
    """

    id: UUID
    type: str
    originator: Originator
    data: bytes
    metadata: Mapping[str, str]
    time: int

    def body(self) -> Any:
        """The value of its data. Raises jsontext.BadJSON."""
        return jsontext.decode(self.data)
