"""`rpcbroker restore`"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from rpcbroker.cli.backup import described
from rpcbroker.cli.place import of_this_machine, state_dir_of, store_file_of
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.words import counted
from rpcbroker.core.ports import StoreError
from rpcbroker.host.lock import InUseError, lock
from rpcbroker.store.catch_up import CaughtUp
from rpcbroker.store.restore import Restored, same_owner
from rpcbroker.store.restore import restore as restore_store


@click.command
@click.argument("file", type=click.Path(path_type=Path))
@of_this_machine
def restore(file: Path, config: str | None, state_dir: str | None) -> None:
    """Put the backup FILE in the place of the store.

    The broker must not run. The store that is there is kept beside the new one. Ids of calls go on far
    above all that were used, and who has logged out since the backup stays logged out. Persistent calls
    that have ended since stay ended, and those that were made since are not taken over. Passwords, credentials
    and devices are what they were then. Devices notice nothing. On another machine, users log in again: the
    key that signs their tokens is not in a backup.
    """
    place, now = state_dir_of(state_dir), datetime.now(UTC)
    store = store_file_of(config, place, instead="Stop the broker, then: pg_restore --clean --dbname DATABASE FILE")
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock(place):
            same_owner(place / "lock", place)
            restored = restore_store(
                file.absolute(), store, stamp=f"{now:%Y%m%dT%H%M%SZ}", now=int(now.timestamp() * 1000)
            )
    except InUseError as error:
        raise Stop(f"A broker runs on it: {error}.", hint="Stop it first; devices come back by themselves.") from None
    except StoreError as error:
        raise Stop(f"{error}.") from None
    except OSError as error:
        raise Stop(f"state directory {place}: {error.strerror}.") from None
    _tell(restored, store=store, file=file, key=place / "jwt-signing-key")


def _tell(restored: Restored, *, store: Path, file: Path, key: Path) -> None:
    click.echo(f"Restored {store} from {file}: {described(restored.contents)}.")
    if restored.kept:
        click.echo(f"The store that was there is kept: {restored.kept}")
    click.echo(f"The ids of calls go on above {restored.wire_ids:,}.")
    _tell_calls(restored.caught_up)
    if not key.exists():
        click.echo("Users log in again: the key that signs their tokens will be a new one.")
    elif not restored.merged:
        click.echo(
            "Warning: there was no store that could be read, so users who have logged out since the backup are"
            f" logged in again. To end every session, remove {key} before the broker starts.",
            err=True,
        )


def _tell_calls(caught_up: CaughtUp) -> None:
    if caught_up.ended:
        click.echo(f"Ended since the backup, and not made again: {counted(caught_up.ended, 'call')}.")
    if caught_up.deleted:
        click.echo(f"Deleted since the backup, and ended for that: {counted(caught_up.deleted, 'call')}.")
    if caught_up.left_out or caught_up.left_out_bulks:
        which = _which(caught_up.left_out, caught_up.left_out_bulks)
        click.echo(f"Made since the backup, still waiting in the store that was there, and not taken over: {which}.")
    if caught_up.doubtful or caught_up.doubtful_bulks:
        which = _which(caught_up.doubtful, caught_up.doubtful_bulks)
        click.echo(
            "Warning: waiting calls may reach devices twice, for what became of them since the backup is not known:"
            f" {which}.",
            err=True,
        )


def _which(calls: int, bulks: int) -> str:
    """`3 calls, 1 bulk`."""
    return ", ".join(counted(count, noun) for count, noun in ((calls, "call"), (bulks, "bulk")) if count)
