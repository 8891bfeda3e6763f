"""Where the store is: what `[store] url` and the state directory say together."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from rpcbroker.core.ports import StoreError

STORE_FILE = "rpcbroker.sqlite"
"""In the state directory, unless the configuration names another place."""


def store_url(url: str, state_dir: Path) -> str:
    """`url` as it was configured, or SQLite in the state directory when it is empty."""
    return url or f"sqlite:///{state_dir / STORE_FILE}"


def sqlite_file(url: str) -> Path | None:
    """The absolute path of a SQLite store; None when `url` names another database. Raises StoreError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("[store] url: it is no SQLAlchemy URL") from None
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database:
        raise StoreError("[store] url: SQLite needs a file")
    return Path(parsed.database).absolute()
