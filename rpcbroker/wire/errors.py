"""What a peer can do wrong on the wire."""

from __future__ import annotations


class WireError(Exception):
    """The peer broke the protocol. `code` says how: an MQTT 5.0 reason code, or a CoAP response code."""

    def __init__(self, message: str, code: int = 0x81) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
