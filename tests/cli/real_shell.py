"""Commands run against the real API and store, in memory: no reactor, no socket, no process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click.testing
from fakes import result_of
from rest import BASE, PASSWORD, Rest

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.login_file import Login, write_login
from rpcbroker.core.model import User


class RealShell:
    """Runs commands as a user would. `requests` is what came in since the last command: method, path, status."""

    def __init__(self, run: Callable[..., click.testing.Result], login_file: Path) -> None:
        self.rest = Rest()
        self.requests: list[tuple[str, str, int]] = []
        self.before_request: Callable[[str, str], Answer | None] = lambda _method, _path: None
        self._run = run
        self.login_file = login_file

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """See rpcbroker.cli.rest.Send; what `before_request` returns is the answer."""
        path = url.removeprefix(BASE)
        answer = self.before_request(method, path) or await self._answer(method, url, headers, body)
        self.requests.append((method, path, answer.status))
        return answer

    async def _answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        waiting = self.rest.treq.request(method, url, data=body, headers=dict(headers))
        self.rest.treq.flush()
        response = await waiting
        content = await self.rest.treq.content(response)
        received = {name.decode().lower(): values[-1].decode() for name, values in response.headers.getAllRawHeaders()}
        return Answer(response.code, received, content)

    def run(self, *words: str, **more: Any) -> click.testing.Result:
        """What the command printed, whatever its exit code."""
        self.requests.clear()
        return self._run(*words, **more)

    def says(self, *words: str, **more: Any) -> str:
        """The stdout of a command that must work."""
        result = self.run(*words, **more)
        assert result.exit_code == 0, result.output
        return result.stdout

    def as_admin(self) -> RealShell:
        """Logged in as the tenant's administrator."""
        return self.as_(self.rest.user)

    def as_(self, user: User) -> RealShell:
        """Logged in as this user."""
        tokens = self.rest.pair(user)
        login = Login(url=BASE, username=user.email, token=tokens.token, refresh_token=tokens.refresh_token)
        write_login(self.login_file, login)
        return self

    def user(self, email: str) -> User:
        """The user as stored."""
        found: User | None = result_of(self.rest.store.people.user_by_email(email))
        assert found is not None
        return found

    def can_log_in(self, email: str, password: str = PASSWORD) -> bool:
        """Whether that is the password, and the user is let in."""
        return self.run("login", BASE, "-u", email, "--password-stdin", input=password).exit_code == 0
