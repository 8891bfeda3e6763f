"""The REST API as the command line uses it: bodies and answers are the schema's, failures are Stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from twisted.internet.defer import DeferredLock

from rpcbroker.cli.answers import Answer, failure
from rpcbroker.cli.login_file import KeyLogin, Login
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.schema.common import MAX_PAGE_SIZE, PageJSON
from rpcbroker.schema.people import LoginBody, RefreshBody, TokenPair

T = TypeVar("T")


class Send(Protocol):
    """Does one HTTP request. Raises Stop when there is no answer."""

    def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> Awaitable[Answer]: ...


class Rest:
    """A broker, as one user. `body` is always a value of the schema, `query` what stands behind the question mark."""

    def __init__(
        self, send: Send, login: Login | KeyLogin, *, keep: Callable[[Login], None] = lambda _login: None
    ) -> None:
        """`keep` is given the login whenever its tokens change."""
        self.login = login
        self._send = send
        self._keep = keep
        self._renewing = DeferredLock()

    @property
    def url(self) -> str:
        """Where the broker is, without a slash at the end."""
        return self.login.url

    async def log_in(self, username: str, password: str) -> None:
        """Get tokens. Raises Stop."""
        answer = await self.post("/api/auth/login", LoginBody(username, password))
        self.take(username, answer.read_as(TokenPair))

    def take(self, username: str, tokens: TokenPair) -> None:
        """Go on as this user, with these tokens."""
        self.login = Login(url=self.url, username=username, token=tokens.token, refresh_token=tokens.refresh_token)
        self._keep(self.login)

    async def ask(self, type_: type[T], method: str, path: str, body: Any = None, /, **query: Any) -> T:
        """The answer as a type of the schema. Raises Stop."""
        return (await self.request(method, path, body, **query)).read_as(type_)

    async def pages(self, type_: type[T], path: str, **query: Any) -> AsyncIterator[T]:
        """All items of a list, a page at a time. Raises Stop."""
        page_type: Any = PageJSON[type_]  # type: ignore[valid-type]
        page = 0
        while True:
            part = await self.ask(page_type, "GET", path, pageSize=MAX_PAGE_SIZE, page=page, **query)
            for item in part.data:
                yield item
            if not part.has_next:
                return
            page += 1

    async def request(self, method: str, path: str, body: Any = None, /, **query: Any) -> Answer:
        """A successful answer. Raises Stop for every other one."""
        return _successful(await self.try_request(method, path, body, **query))

    async def try_request(self, method: str, path: str, body: Any = None, /, **query: Any) -> Answer:
        """Any answer. Raises Stop when there is none, or when the login has ended.

        An access token that is not good any more is renewed once, with the refresh token.
        """
        used = self.login
        answer = await self._request(method, path, body, query, authorization=used.authorization)
        if answer.status == 401 and isinstance(used, Login):
            await self._renewing.run(lambda: self._renewed(used))
            answer = await self._request(method, path, body, query, authorization=self.login.authorization)
        return answer

    async def post(self, path: str, body: Any) -> Answer:
        """A successful answer to somebody who is not logged in. Raises Stop for every other one."""
        return _successful(await self._request("POST", path, body, {}))

    async def _request(
        self, method: str, path: str, body: Any, query: Mapping[str, Any], *, authorization: str | None = None
    ) -> Answer:
        headers = {} if authorization is None else {"X-Authorization": authorization}
        try:
            given = urlencode({name: value for name, value in query.items() if value is not None})
            data = None if body is None else msgspec.json.encode(body)
        except UnicodeEncodeError:
            raise Stop("What you typed is not UTF-8.", ExitCode.USAGE) from None
        if data is not None:
            headers["Content-Type"] = "application/json"
        url = f"{self.url}{path}?{given}" if given else self.url + path
        return await self._send(method, url, headers=headers, body=data)

    async def _renewed(self, used: Login) -> None:
        """Many requests may find out at once that a token is old: the first one renews it for all."""
        if self.login is not used:
            return
        answer = await self._request("POST", "/api/auth/token", RefreshBody(used.refresh_token), {})
        if answer.status != 200:
            raise Stop("Your login has ended.", ExitCode.NOT_LOGGED_IN, hint=f"Run: rpcbroker login {self.url}")
        tokens = answer.read_as(TokenPair)
        self.login = replace(used, token=tokens.token, refresh_token=tokens.refresh_token)
        self._keep(self.login)


def _successful(answer: Answer) -> Answer:
    if not 200 <= answer.status < 300:
        raise failure(answer)
    return answer


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
