"""The messages that devices and callers cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from rpcbroker.core.model import Device
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage

SERVICE = "rpcbroker"
"""The serviceId of all messages: there is one process."""


class Messages:
    """Makes them. `now_ms` is epoch ms."""

    def __init__(self, *, now_ms: Callable[[], int], new_uuid: Callable[[], UUID]) -> None:
        self.now_ms = now_ms
        self.new_uuid = new_uuid

    def of_device(
        self,
        device: Device,
        type_: str,
        data: bytes,
        metadata: Mapping[str, str],
    ) -> RuleMessage:
        """About a device, whose name and type the metadata get."""
        return self.about(
            Originator(DEVICE, device.id),
            type_,
            data,
            {**metadata, "deviceName": device.name, "deviceType": device.type},
        )

    def about(
        self,
        originator: Originator,
        type_: str,
        data: bytes,
        metadata: Mapping[str, str],
    ) -> RuleMessage:
        """About anything, with just these metadata."""
        return RuleMessage(
            id=self.new_uuid(),
            type=type_,
            originator=originator,
            data=data,
            metadata=metadata,
            time=self.now_ms(),
        )
