"""Who may come in over MQTT, as what, and with which session: what all connections share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from rpcbroker.core.broker import Broker
from rpcbroker.core.connects import Connects, address_of
from rpcbroker.core.deadlines import Clock
from rpcbroker.core.direct import Outgoing
from rpcbroker.core.events import DeviceExpelled
from rpcbroker.core.model import NULL_UUID, Device
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports.certificate import peer_certificate
from rpcbroker.transports.mqtt import wills
from rpcbroker.transports.mqtt.carrier import Carrier, Drops, Surroundings
from rpcbroker.transports.mqtt.device import DeviceSurroundings, MqttLink
from rpcbroker.transports.mqtt.face import NOBODY, Face
from rpcbroker.transports.mqtt.provision import USER, ProvisionFace
from rpcbroker.transports.mqtt.pubsub import PubSub
from rpcbroker.transports.mqtt.rights import Rights, rights_of
from rpcbroker.transports.mqtt.session import Key, MqttSession
from rpcbroker.transports.mqtt.sessions import MqttSessions
from rpcbroker.transports.uplinks import Enrolment
from rpcbroker.wire.mqtt.connection import Limits
from rpcbroker.wire.mqtt.packets import ConnAck, Connect, ReasonCode, Will
from rpcbroker.wire.mqtt.properties import Property

_NOT_TOLD = 0xFFFF
"""The value of Receive Maximum that need not be told (3.2.2.3.3)."""


class Admitted(NamedTuple):
    """Who came in: a device, a stranger that wants to become one, or else somebody without credentials.

    The last may use the free topics of `tenant_id`.
    """

    tenant_id: UUID
    device: DeviceSession | None
    stranger: bool = False


class Admission:
    """What decides on each CONNECT, and counts."""

    _log = Logger()

    def __init__(
        self,
        *,
        broker: Broker,
        settings: MqttSettings,
        clock: Clock,
        outgoing: Outgoing,
        new_client_id: Callable[[], str],
        default_tenant: Callable[[], UUID],
        enrolment: Callable[[], Enrolment],
    ) -> None:
        """`default_tenant` is whose free topics a client without credentials is let into.

        `enrolment` is where strangers, and devices that offer themselves, are led to.
        """
        self._enrolment = enrolment
        self._broker = broker
        self.clock = clock
        self.outgoing = outgoing
        self._new_client_id = new_client_id
        self._default_tenant = default_tenant
        self._devices = DeviceSurroundings(
            broker=broker,
            claim=self._claim,
            settings=lambda: self._settings,
        )
        self.connects = Connects(settings, clock.seconds)
        self.settings = settings
        self.around = Surroundings(
            deadlines=broker.deadlines, seconds=clock.seconds, settings=lambda: self._settings, drops=Drops()
        )
        self.pubsub = PubSub(self.around)
        self.sessions = MqttSessions(
            broker.deadlines,
            lambda: self._settings,
            publish_will=self._publish_will,
            ended=self.pubsub.forget,
        )
        broker.events.listen(DeviceExpelled, lambda event: self.sessions.end_all_of(event.device_id))
        self.handshakes = 0
        self.connections = 0
        self.refusals = 0
        self.violations = 0

    @property
    def settings(self) -> MqttSettings:
        """May be replaced at any time; what a client was promised stays."""
        return self._settings

    @settings.setter
    def settings(self, settings: MqttSettings) -> None:
        self._settings = self.connects.settings = settings
        self.limits = Limits(
            max_packet_size=settings.max_packet_size,
            connect_timeout=settings.connect_timeout,
            receive_maximum=settings.receive_maximum,
            unfinished_v3=settings.max_unfinished,
            topic_alias_maximum=settings.topic_alias_maximum,
        )

    @property
    def kept_sessions(self) -> int:
        """Sessions, with and without a connection."""
        return len(self.sessions)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many messages did not go out, by why."""
        return asdict(self.around.drops)

    # -- connections

    def admit(self, transport: Any) -> bool:
        """Count a new connection; False if its address has too many, or too many have not finished CONNECT."""
        self.handshakes += 1
        return self.connects.admits(_address(transport)) and self.handshakes <= self._settings.max_handshakes

    def connected(self) -> None:
        self.handshakes -= 1
        self.connections += 1

    def released(self, transport: Any, *, connected: bool) -> None:
        """A connection is gone."""
        self.connects.left(_address(transport))
        if connected:
            self.connections -= 1
        else:
            self.handshakes -= 1

    def note_violation(self, what: str, peer: IAddress) -> None:
        """A connection that ended for breaking the protocol; each first of ten is logged."""
        self.violations += 1
        if self.violations % 10 == 1:
            self._log.info("{what} (from {peer}; {count} so far)", what=what, peer=peer, count=self.violations)

    # -- CONNECT

    async def enter(self, connect: Connect, transport: Any) -> Admitted | int:
        """Who sends this CONNECT, or the code (of MQTT 5.0) that it is refused with."""
        settings = self._settings
        if settings.max_keep_alive and connect.level < 5 and not 0 < connect.keep_alive <= settings.max_keep_alive:
            return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID  # 3.x has no way of telling another one
        certificate = peer_certificate(transport)
        if certificate is None and USER in (connect.username, connect.client_id):
            return Admitted(NULL_UUID, None, stranger=True)
        device = await self._broker.enter(connect, certificate=certificate)
        if device is not None:
            if not self.connects.device(device.device.id):
                device.note(NearMiss.RATE_LIMITED, "connects more often than it may (mqtt.connect_rate)")
                return ReasonCode.CONNECTION_RATE_EXCEEDED
            return Admitted(device.device.tenant_id, device)
        if (
            certificate is None
            and connect.username is None
            and connect.password is None
            and settings.allow_anonymous
            and self.pubsub.allowed
        ):
            return Admitted(self._default_tenant(), None)
        self.refusals += 1
        if self.refusals % 100 == 1:
            self._log.info("a CONNECT with unknown credentials was refused; {count} so far", count=self.refusals)
        self.connects.refused(_address(transport))
        return _why_refused(connect) if certificate is None else ReasonCode.NOT_AUTHORIZED

    def session(self, connect: Connect, admitted: Admitted) -> tuple[MqttSession, bool]:
        """The session that this connection goes on with, and whether it was there before."""
        if admitted.stranger:
            return MqttSession(Key(NULL_UUID, None, connect.client_id or self._new_client_id()), None), False
        owner = None if admitted.device is None else admitted.device.device.id
        scope = owner if self._settings.client_ids == "device" else None
        if owner is None:
            scope = NULL_UUID  # who has shown nothing takes over no device's session
        key = Key(admitted.tenant_id, scope, connect.client_id or self._new_client_id())
        self._note_takeover(key, admitted.device)
        expiry = self._expiry(connect)
        session, present = self.sessions.enter(key, owner, clean=connect.clean_start, expiry=expiry)
        if present:
            self.pubsub.keep_allowed(session, self.rights(admitted.device))
        return session, present

    def _note_takeover(self, key: Key, device: DeviceSession | None) -> None:
        """Two clients with one client id are a likely reason for what somebody will wonder about."""
        older = self.sessions.holder(key)
        if device is None or older is None or older.way is None:
            return
        if older.owner == device.device.id:
            device.taken_over()
            return
        detail = f"connected with the client id {key.client_id[:40]!r}, which another client of the tenant uses too"
        device.note(NearMiss.CLIENT_ID_SHARED, detail)

    def _expiry(self, connect: Connect) -> int:
        most = int(self._settings.max_session_expiry)
        if connect.level < 5:
            return 0 if connect.clean_start else most
        return min(connect.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0), most)

    def connack(self, connect: Connect, admitted: Admitted, session: MqttSession, *, present: bool) -> ConnAck:
        """The acceptance; 5.0 clients are told what they may not do, and what was decided for them (3.2.2.3)."""
        if connect.level < 5:
            return ConnAck(present and connect.level == 4, ReasonCode.SUCCESS)  # 3.1 has no such flag
        settings, properties = self._settings, dict[Property, Any]()
        properties[Property.MAXIMUM_PACKET_SIZE] = self.limits.max_packet_size
        if settings.receive_maximum != _NOT_TOLD:
            properties[Property.RECEIVE_MAXIMUM] = settings.receive_maximum
        if settings.topic_alias_maximum:
            properties[Property.TOPIC_ALIAS_MAXIMUM] = settings.topic_alias_maximum
        if session.expiry != connect.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0):
            properties[Property.SESSION_EXPIRY_INTERVAL] = session.expiry
        if not connect.client_id:
            properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = session.key.client_id  # MQTT-3.2.2-16
        most = int(settings.max_keep_alive)
        if most and not 0 < connect.keep_alive <= most:
            properties[Property.SERVER_KEEP_ALIVE] = most  # MQTT-3.2.2-21
        return ConnAck(present, ReasonCode.SUCCESS, properties)

    def face(self, admitted: Admitted, session: MqttSession, carrier: Carrier) -> tuple[Face, MqttLink | None]:
        """What the client is to the broker and, if it is a device, the link that calls go over."""
        if admitted.stranger:
            stranger = ProvisionFace(
                provision=self._enrolment().provision,
                publish=carrier.publish,
                close=lambda: carrier.end(ReasonCode.SUCCESS, "a stranger's time is over"),
                deadlines=self._broker.deadlines,
            )
            return stranger, None
        if admitted.device is None:
            return NOBODY, None
        link = MqttLink(admitted.device, session, carrier, self._devices, self.limits)
        return link, link

    def rights(self, device: DeviceSession | None) -> Rights:
        """What somebody may do with free topics now."""
        return self.pubsub.anonymous_rights() if device is None else rights_of(device.device.topic_rights)

    def _claim(self, device: Device, offer: bytes) -> Deferred[None]:
        return self._enrolment().claim(device, offer)

    # -- the end of a connection

    def _publish_will(self, session: MqttSession, will: Will) -> None:
        wills.publish(session, will, broker=self._broker, pubsub=self.pubsub, now=self.clock.seconds())


def _address(transport: Any) -> object:
    return address_of(transport.getPeer())


def _why_refused(connect: Connect) -> int:
    """The code for a CONNECT whose sender is not known."""
    if connect.username is not None or connect.password is not None:
        return ReasonCode.BAD_USER_NAME_OR_PASSWORD
    return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID if connect.client_id.strip() else ReasonCode.NOT_AUTHORIZED
