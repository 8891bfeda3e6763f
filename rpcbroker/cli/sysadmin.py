"""`rpcbroker sysadmin`"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import click
from twisted.python.failure import Failure

from rpcbroker.api import checks
from rpcbroker.api.passwords import hash_password
from rpcbroker.cli import ask, listing
from rpcbroker.cli.place import configuration_of, of_this_machine, state_dir_of
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.words import sentence
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import NULL_UUID, AuditEntry, Authority, PageLink, User
from rpcbroker.core.ports import StoreError
from rpcbroker.core.settings import Settings
from rpcbroker.schema.common import MAX_PAGE_SIZE
from rpcbroker.schema.people import user_json
from rpcbroker.store.audit import SqlAudit
from rpcbroker.store.direct import DirectDatabase
from rpcbroker.store.location import store_url
from rpcbroker.store.people import SqlPeople


@click.group
def sysadmin() -> None:
    """Add and list system administrators, in the store itself.

    This is for the machine of the broker, which may be running, and for its user: whoever can write
    to the store can do this. System administrators add tenants: rpcbroker tenant add.
    """


@sysadmin.command
@click.argument("email")
@ask.PASSWORD_STDIN
@of_this_machine
def add(email: str, password_stdin: bool, config: str | None, state_dir: str | None) -> None:
    """Add the system administrator EMAIL.

    The password is asked for. The broker may be running.
    """
    with _store(config, state_dir) as (database, settings):
        password = ask.password("New password", from_stdin=password_stdin, new=True)
        try:
            hashed = hash_password(password)
        except ValueError as error:
            raise Stop(f"That is not possible: {error}.") from None
        user = User(
            id=uuid4(),
            tenant_id=NULL_UUID,
            email=checks.email(email),
            authority=Authority.SYS_ADMIN,
            password_hash=hashed,
            created_time=_now_ms(),
        )
        _now(SqlPeople(database, devices_changed=lambda: None).create_user(user))
        _record(database, settings, user)
    click.echo(f"Added {email}. Next: rpcbroker login URL -u {email}", err=True)


@sysadmin.command("list")
@listing.JSON
@of_this_machine
def list_(as_json: bool, config: str | None, state_dir: str | None) -> None:
    """List the system administrators by email."""
    with _store(config, state_dir) as (database, _):
        link = PageLink(page_size=MAX_PAGE_SIZE, sort_property="email")
        found = _now(SqlPeople(database, devices_changed=lambda: None).users(NULL_UUID, link))
    listing.print_list(
        [user_json(each) for each in found.items],
        {
            "EMAIL": lambda each: each.email,
            "STATE": lambda each: "active" if each.additional_info["userCredentialsEnabled"] else "disabled",
            "ADDED (UTC)": lambda each: listing.when(each.created_time),
        },
        as_json=as_json,
        nothing="There is no system administrator. Add one: rpcbroker sysadmin add EMAIL",
    )


@contextmanager
def _store(config: str | None, state_dir: str | None) -> Iterator[tuple[DirectDatabase, Settings]]:
    """The broker's store; what goes wrong with it is a Stop."""
    settings = configuration_of(config, os.environ).settings
    try:
        database = DirectDatabase(store_url(settings.store.url, state_dir_of(state_dir)))
        database.open(lambda _connection: None)
        try:
            yield database, settings
        finally:
            database.close()
    except StoreError as error:
        raise Stop(
            f"{str(error)[0].upper()}{str(error)[1:]}.",
            hint="The first start of the broker makes its store: twistd -n rpcbroker. "
            "Run this as the broker's user, with the broker's --state-dir and --config.",
        ) from None
    except BrokerError as error:
        raise Stop(sentence(error.message), hint=error.hint) from None


def _record(database: DirectDatabase, settings: Settings, user: User) -> None:
    """In the audit log of the system administrators."""
    entry = AuditEntry(
        created_time=user.created_time,
        tenant_id=NULL_UUID,
        customer_id=None,
        entity_type="USER",
        entity_id=user.id,
        entity_name=user.email,
        user_id=NULL_UUID,
        user_name=f"{getpass.getuser()} on the broker's machine",
        action="ADDED",
        data=None,
        failure="",
    )
    since = user.created_time - int(settings.audit.max_age * 1000)
    _now(SqlAudit(database).append([entry], since=since, max_entries=settings.audit.max_entries))


def _now(fired: Any) -> Any:
    """What a Deferred that has fired already says."""
    outcome: list[Any] = []
    fired.addBoth(outcome.append)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
