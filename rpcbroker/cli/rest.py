"""The REST API as the command line uses it: one method a request, errors as Stop."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID

from rpcbroker.cli.login_file import Login
from rpcbroker.cli.stop import ExitCode, Stop

OFFLINE = frozenset({"NO_SUBSCRIPTION", "NEVER_CONNECTED", "DISCONNECTED"})
"""Reasons that say: nothing could take the call."""
PAGE_SIZE = 100


class Answer(NamedTuple):
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's value, None for an empty one. Raises Stop."""
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Stop("The server's answer is not JSON: is this the URL of a broker?") from None


class Send(Protocol):
    """Does one HTTP request. Raises Stop when there is no answer."""

    def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> Awaitable[Answer]: ...


class Rest:
    """A broker, as one user."""

    def __init__(self, send: Send, login: Login, *, keep: Callable[[Login], None] = lambda _login: None) -> None:
        """`keep` is given the login whenever its tokens change."""
        self.login = login
        self._send = send
        self._keep = keep

    async def log_in(self, password: str) -> None:
        """Get tokens. Raises Stop."""
        answer = await self._post("/api/auth/login", {"username": self.login.username, "password": password})
        if answer.status != 200:
            raise failure(answer)
        self._take_tokens(answer)

    async def request(self, method: str, path: str, body: Any = None) -> Answer:
        """A successful answer. Raises Stop for every other one.

        An access token that is not good any more is renewed once, with the refresh token.
        """
        answer = await self.try_request(method, path, body)
        if not 200 <= answer.status < 300:
            raise failure(answer)
        return answer

    async def try_request(self, method: str, path: str, body: Any = None) -> Answer:
        """Any answer but "who are you?". Raises Stop."""
        answer = await self._authorised(method, path, body)
        if answer.status == 401:
            await self._refresh()
            answer = await self._authorised(method, path, body)
        return answer

    # -- what the commands need

    async def user(self) -> Any:
        """Who is logged in."""
        return (await self.request("GET", "/api/auth/user")).json()

    async def devices(self) -> list[Any]:
        """All of them, by name."""
        found: list[Any] = []
        page = 0
        while True:
            query = urlencode({"pageSize": PAGE_SIZE, "page": page, "sortProperty": "name"})
            part = (await self.request("GET", f"/api/tenant/devices?{query}")).json()
            found += part["data"]
            page += 1
            if not part["hasNext"]:
                return found

    async def device_id(self, name_or_id: str) -> str:
        """The id of a device that is named by its name or by its id. Raises Stop."""
        try:
            return str(UUID(name_or_id))
        except ValueError:
            device = await self.device_by_name(name_or_id)
        if device is None:
            raise Stop(
                f"There is no device named {name_or_id!r}.",
                ExitCode.NO_SUCH_DEVICE,
                hint="rpcbroker device list shows what there is.",
            )
        return str(device["id"]["id"])

    async def device_by_name(self, name: str) -> Any:
        """The device, or None."""
        answer = await self.try_request("GET", f"/api/tenant/devices?{urlencode({'deviceName': name})}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise failure(answer)
        return answer.json()

    async def add_device(self, name: str, *, type_: str, token: str | None = None) -> Any:
        """A new device; without `token` the broker makes one up."""
        query = f"?{urlencode({'accessToken': token})}" if token else ""
        return (await self.request("POST", f"/api/device{query}", {"name": name, "type": type_})).json()

    async def device_token(self, device_id: str) -> str:
        """The access token of a device. Raises Stop for other kinds of credentials."""
        credentials = (await self.request("GET", f"/api/device/{quote(device_id)}/credentials")).json()
        if credentials["credentialsType"] != "ACCESS_TOKEN":
            raise Stop(
                f"The device has credentials of the kind {credentials['credentialsType']}; "
                "only access tokens can be used here."
            )
        return str(credentials["credentialsId"])

    # -- inside

    async def _authorised(self, method: str, path: str, body: Any) -> Answer:
        return await self._request(method, path, body, {"X-Authorization": f"Bearer {self.login.token}"})

    async def _post(self, path: str, body: Any) -> Answer:
        return await self._request("POST", path, body, {})

    async def _request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers = {**headers, "Content-Type": "application/json"}
        return await self._send(method, self.login.url + path, headers=headers, body=data)

    async def _refresh(self) -> None:
        answer = await self._post("/api/auth/token", {"refreshToken": self.login.refresh_token})
        if answer.status != 200:
            raise Stop("Your login has ended.", ExitCode.NOT_LOGGED_IN, hint=f"Run: rpcbroker login {self.login.url}")
        self._take_tokens(answer)

    def _take_tokens(self, answer: Answer) -> None:
        tokens = answer.json()
        try:
            token, refresh_token = str(tokens["token"]), str(tokens["refreshToken"])
        except (KeyError, TypeError):
            raise Stop("The server's answer has no tokens: is this the URL of a broker?") from None
        self.login = replace(self.login, token=token, refresh_token=refresh_token)
        self._keep(self.login)


def failure(answer: Answer) -> Stop:
    """The Stop for an answer that is no success: message, reason and hint as the broker gives them."""
    try:
        members = json.loads(answer.body)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        members = {}
    message = str(members.get("message") or f"The server answered with status {answer.status}")
    reason, hint = members.get("reason"), members.get("hint")
    return Stop(
        message if message.endswith((".", "!", "?")) else f"{message}.",
        _exit_code(answer.status, reason, members.get("errorCode")),
        reason=str(reason) if reason else None,
        hint=str(hint) if hint else None,
    )


def _exit_code(status: int, reason: Any, error_code: Any) -> ExitCode:
    if status in (401, 403):
        return ExitCode.NOT_LOGGED_IN
    if status == 404 and error_code == 32:
        return ExitCode.NO_SUCH_DEVICE
    if status in (408, 409, 504):
        if reason in OFFLINE or (status == 409 and reason is None and error_code is None):
            return ExitCode.DEVICE_OFFLINE
        return ExitCode.ERROR if status == 409 else ExitCode.NO_REPLY
    return ExitCode.ERROR


def checked_url(text: str) -> str:
    """`http://host:port`, from what people type. Raises Stop."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.query or parts.fragment or not url.isprintable():
        raise Stop(f"{text!r} is not the URL of a broker.", ExitCode.USAGE, hint="It looks like http://HOST:8080")
    return url.rstrip("/")
