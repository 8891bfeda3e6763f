"""The broker that the user is logged in to."""

from __future__ import annotations

import os
from typing import Any

from rpcbroker.cli.http import sender
from rpcbroker.cli.login_file import login_path, read_login, write_login
from rpcbroker.cli.rest import Rest


def logged_in(reactor: Any, *, timeout: float = 30.0) -> Rest:
    """Raises Stop when nobody is logged in. New tokens are kept."""
    path = login_path(os.environ)
    return Rest(sender(reactor, timeout=timeout), read_login(path), keep=lambda login: write_login(path, login))
