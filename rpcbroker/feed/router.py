"""The WAMP router: all sessions of all tenants. https://wamp-proto.org/spec.html"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.feed_settings import FeedSettings, WampSettings
from rpcbroker.feed import uris
from rpcbroker.feed.calls import Asked
from rpcbroker.feed.dealer import Dealer
from rpcbroker.feed.errors import Refused, told
from rpcbroker.feed.messages import Received
from rpcbroker.feed.meta import Meta
from rpcbroker.feed.ports import Connection, Payload, Procedures, Rights, Watching
from rpcbroker.feed.realm import Realms
from rpcbroker.feed.rights import Space
from rpcbroker.feed.session import Session
from rpcbroker.feed.surroundings import Surroundings


class Router:
    """Knows no wire: connections give it lists, and take bytes."""

    def __init__(
        self,
        *,
        watching: Watching,
        procedures: Procedures,
        rights: Rights,
        settings: WampSettings,
        feed: FeedSettings,
        deadlines: Deadlines,
        seconds: Callable[[], float],
        new_id: Callable[[], int],
    ) -> None:
        """`new_id` gives a random number from 1 to 2^53. `settings` and `feed` may be replaced."""
        self.settings = settings
        self.feed = feed
        self._gone_dropped = 0
        self._sessions: dict[Session, None] = {}
        self._realms = Realms(
            new_id=new_id,
            new_dealer=lambda: Dealer(
                max_calls=lambda: self.settings.max_calls, max_waiting=lambda: self.feed.max_waiting
            ),
        )
        self._surroundings = Surroundings(
            parse=_parse,
            rights=rights,
            watching=watching,
            procedures=procedures,
            meta=Meta(self._realms),
            realms=self._realms,
            settings=lambda: self.settings,
            feed=lambda: self.feed,
            deadlines=deadlines,
            seconds=seconds,
            new_id=new_id,
        )

    def connected(self, connection: Connection) -> Session:
        """Somebody is there who will say HELLO."""
        session = Session(connection, self._surroundings, self._ended)
        self._sessions[session] = None
        return session

    def ask(self, tenant_id: UUID, method: str, payload: Payload) -> Deferred[Payload] | None:
        """As ports.Methods."""
        realm = self._realms.find(Space(tenant_id))
        procedure = f"{uris.METHODS}{method}"
        if realm is None or procedure not in realm.dealer.procedures:
            return None
        asked = Asked()
        try:
            asked.call = realm.dealer.call(procedure, payload, {}, asked)
        except (BrokerError, Refused) as error:
            asked.error(told(error))
        return asked.answer

    def methods(self, tenant_id: UUID) -> Iterable[str]:
        """As ports.Methods."""
        realm = self._realms.find(Space(tenant_id))
        procedures = () if realm is None else realm.dealer.procedures
        return [each.removeprefix(uris.METHODS) for each in procedures if each.startswith(uris.METHODS)]

    def stop(self) -> None:
        """All sessions are told, and end."""
        for session in tuple(self._sessions):
            session.stop()

    @property
    def open_sessions(self) -> int:
        """Connections, whether they have joined or not."""
        return len(self._sessions)

    @property
    def dropped(self) -> int:
        """Messages that were not sent to sessions that read slowly, since the start."""
        return self._gone_dropped + sum(session.dropped for session in self._sessions)

    def _ended(self, session: Session) -> None:
        del self._sessions[session]
        self._gone_dropped += session.dropped


def _parse(message: list[object]) -> Received:
    """Loads autobahn with the first message, for a broker that nobody watches has no use for it."""
    from rpcbroker.feed.reading import parse  # noqa: PLC0415

    return parse(message)
