"""Tells twistd about `rpcbroker`; imports nothing heavy."""

from twisted.application.service import ServiceMaker

rpcbroker = ServiceMaker(
    "rpcbroker",
    "rpcbroker.tap",
    "A single-process IoT RPC broker: HTTP callers, MQTT devices.",
    "rpcbroker",
)
