"""The door of MQTT: one protocol for each connection."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from rpcbroker.transports.mqtt.admission import Admission
from rpcbroker.transports.mqtt.protocol import MqttProtocol


class MqttFactory(Factory):
    """All MQTT connections of one process."""

    noisy = False

    def __init__(self, admission: Admission) -> None:
        self.admission = admission

    def buildProtocol(self, addr: IAddress | None) -> MqttProtocol:
        return MqttProtocol(self.admission)
