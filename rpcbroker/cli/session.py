"""The broker that the user is logged in to, or that the environment names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from rpcbroker.cli.http import sender
from rpcbroker.cli.login_file import KeyLogin, Login, login_path, read_login, write_login
from rpcbroker.cli.patience import patient
from rpcbroker.cli.rest import Rest, checked_url
from rpcbroker.cli.stop import ExitCode, Stop

URL, API_KEY = "RPCBROKER_URL", "RPCBROKER_API_KEY"
"""Variables by which scripts need no login."""


def logged_in(
    reactor: Any,
    *,
    timeout: float = 30.0,
    patiently: bool = False,
    events: Callable[[bytes], object] | None = None,
) -> Rest:
    """With an API key in the environment it speaks, else the login that is kept; new tokens are kept.

    `patiently`: a busy broker is asked again. `events` is as in http.sender. Raises Stop when there is neither key
    nor login.
    """
    path = login_path(os.environ)
    login = _key_login() or read_login(path)
    send = sender(reactor, timeout=timeout, events=events)
    if patiently:
        send = patient(send, reactor)
    return Rest(send, login, keep=lambda login: write_login(path, login))


def as_nobody(reactor: Any, url: str, *, keep: bool = False) -> Rest:
    """Not logged in yet. `keep`: the login that is made is that of the next commands."""
    nobody = Login(url=url, username="", token="", refresh_token="")
    if not keep:
        return Rest(sender(reactor), nobody)
    path = login_path(os.environ)
    return Rest(sender(reactor), nobody, keep=lambda login: write_login(path, login))


def known_url() -> str:
    """Where the broker is, without knowing as whom. Raises Stop."""
    given = os.environ.get(URL)
    return checked_url(given) if given else read_login(login_path(os.environ)).url


def _key_login() -> KeyLogin | None:
    key = os.environ.get(API_KEY, "").strip()
    if not key:
        return None
    url = os.environ.get(URL)
    if not url:
        raise Stop(
            f"{API_KEY} is set, but not {URL}: a key is sent to no other broker than its own.",
            ExitCode.USAGE,
            hint=f"Set {URL} too, such as http://localhost:8080",
        )
    return KeyLogin(url=checked_url(url), key=key)
