"""Which MQTT sessions there are, who takes over whose, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports.mqtt.session import FOREVER, Key, MqttSession
from rpcbroker.wire.mqtt.packets import ReasonCode, Will
from rpcbroker.wire.mqtt.properties import Property


class MqttSessions:
    """One session for each tenant and client identifier. All in memory: a restart ends them."""

    def __init__(
        self,
        deadlines: Deadlines,
        settings: Callable[[], MqttSettings],
        *,
        publish_will: Callable[[MqttSession, Will], None],
        ended: Callable[[MqttSession], None],
    ) -> None:
        """`ended` is told of a session that is over, to take it out of wherever it is known."""
        self._deadlines = deadlines
        self._settings = settings
        self._publish_will = publish_will
        self._ended = ended
        self._sessions: dict[Key, MqttSession] = {}
        self._away: dict[UUID | None, dict[Key, MqttSession]] = {}
        """Sessions without a connection, by owner, the one that left first in front."""

    def __len__(self) -> int:
        return len(self._sessions)

    def holder(self, key: Key) -> MqttSession | None:
        return self._sessions.get(key)

    def enter(self, key: Key, owner: UUID | None, *, clean: bool, expiry: int) -> tuple[MqttSession, bool]:
        """The session that a new connection goes on with, and whether it was there before (MQTT-3.2.2-2, -3).

        An older connection of it is closed (MQTT-3.1.4-3). Another owner's session is never handed over.
        """
        session = self._sessions.get(key)
        if session is not None and session.way is not None:
            session.way.end(ReasonCode.SESSION_TAKEN_OVER, "taken over by a newer connection with its client id")
            session = self._sessions.get(key)
        if session is not None and (clean or session.owner != owner):
            self._end(session)
            session = None
        present = session is not None
        if session is None:
            session = self._sessions[key] = MqttSession(key, owner)
        else:
            self._is_back(session)
            session.will = None  # MQTT-3.1.3-9: it came back in time
        session.expiry = expiry
        return session, present

    def left(self, session: MqttSession, *, with_will: bool) -> None:
        """Its connection is gone; `with_will` unless the client said goodbye (MQTT-3.14.4-3)."""
        session.way = None
        if not with_will:
            session.will = None
        if not session.expiry:
            self._end(session)
            return
        will = session.will
        if will is not None:
            delay = min(will.properties.get(Property.WILL_DELAY_INTERVAL, 0), session.expiry)  # 3.1.3.2.2
            session.will_deadline = self._deadlines.after(delay, self._send_will, session) if delay else None
            if not delay:
                self._send_will(session)
        if session.expiry != FOREVER:
            session.expiry_deadline = self._deadlines.after(session.expiry, self._end, session)
        away = self._away.setdefault(session.owner, {})
        away[session.key] = session
        settings = self._settings()
        most = settings.max_anonymous_sessions if session.owner is None else settings.max_sessions_per_device
        if len(away) > most:
            self._end(next(iter(away.values())))

    def disconnect_all(self) -> None:
        """The server is shutting down: whoever is connected is told."""
        for session in tuple(self._sessions.values()):
            if session.way is not None:
                session.way.end(ReasonCode.SERVER_SHUTTING_DOWN, "server shutting down")

    def end_all_of(self, owner: UUID) -> None:
        """The device is gone, or has to prove anew who it is: nothing is kept for it."""
        for session in tuple(self._away.get(owner, {}).values()):
            session.will = None
            self._end(session)

    def _is_back(self, session: MqttSession) -> None:
        for deadline in (session.expiry_deadline, session.will_deadline):
            if deadline is not None:
                deadline.cancel()
        session.expiry_deadline = session.will_deadline = None
        away = self._away.get(session.owner)
        if away is not None:
            away.pop(session.key, None)
            if not away:
                del self._away[session.owner]

    def _send_will(self, session: MqttSession) -> None:
        will, session.will = session.will, None
        if will is not None:
            self._publish_will(session, will)

    def _end(self, session: MqttSession) -> None:
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        self._is_back(session)
        self._ended(session)
        self._send_will(session)
