"""Which broker we talk to, and as whom; a login is kept in a small file that only its owner can read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rpcbroker.cli.stop import ExitCode, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A broker, a user, and the tokens of one login."""

    url: str
    username: str
    token: str
    refresh_token: str

    @property
    def authorization(self) -> str:
        """What says who asks."""
        return f"Bearer {self.token}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLogin:
    """A broker, and an API key that speaks for one of its users: nothing to renew, nothing to keep."""

    url: str
    key: str

    @property
    def authorization(self) -> str:
        """What says who asks."""
        return f"ApiKey {self.key}"


def login_path(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/rpcbroker/login.json`, by default in `~/.config`."""
    home = environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(environ.get("HOME") or "~").expanduser() / ".config"
    return base / "rpcbroker" / "login.json"


def read_login(path: Path) -> Login:
    """Raises Stop when nobody is logged in."""
    hint = "Run: rpcbroker login URL"
    try:
        members = json.loads(path.read_bytes())
        login = Login(**members)
        if not all(isinstance(value, str) for value in asdict(login).values()):
            raise TypeError
    except FileNotFoundError:
        raise Stop("You are not logged in to a broker.", ExitCode.NOT_LOGGED_IN, hint=hint) from None
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}.", ExitCode.NOT_LOGGED_IN) from None
    except (ValueError, TypeError, RecursionError):
        raise Stop(f"{path} is damaged.", ExitCode.NOT_LOGGED_IN, hint=hint) from None
    return login


def write_login(path: Path, login: Login) -> None:
    """All or nothing; for the owner's eyes only. Raises Stop."""
    temporary = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".login-")  # mode 0600
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(login), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise Stop(f"The login cannot be kept in {path}: {error.strerror}.") from None
