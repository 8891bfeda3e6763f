"""Devices that show an access token with each request, as over HTTP and CoAP: whose it is costs one look in a map."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from rpcbroker.core.credentials import ACCESS_TOKEN
from rpcbroker.core.events import DeviceExpelled, EventBus
from rpcbroker.core.sessions import DeviceSession

Enter = Callable[[str], Awaitable[DeviceSession | None]]


class Entrance:
    """The sessions of devices by their access tokens. A device has one token at most, so it has one entry at most."""

    def __init__(self, enter: Enter, events: EventBus) -> None:
        """`enter` asks the store whose an access token is."""
        self._enter = enter
        self._by_token: dict[str, DeviceSession] = {}
        self._tokens: dict[UUID, str] = {}
        events.listen(DeviceExpelled, lambda event: self._forget(event.device_id))

    def known(self, token: str) -> DeviceSession | None:
        """The session of the device with this token, if it was here before; None says nothing."""
        return self._by_token.get(token)

    async def enter(self, token: str) -> DeviceSession | None:
        """The session of the device with this token, None if there is none. Raises Unavailable."""
        if not ACCESS_TOKEN.fullmatch(token):
            return None
        session = await self._enter(token)
        if session is not None:
            self._forget(session.device.id)
            self._by_token[token] = session
            self._tokens[session.device.id] = token
        return session

    def _forget(self, device_id: UUID) -> None:
        """What let it in may not any more."""
        token = self._tokens.pop(device_id, None)
        if token is not None:
            del self._by_token[token]
