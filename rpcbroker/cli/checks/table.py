"""All checks, in the order in which they are told, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import make_url

from rpcbroker.cli.checks import certificates, clock, files, limits, machine, ports, running, stored
from rpcbroker.cli.checks.subject import Subject, Verdict, Verdicts, problem
from rpcbroker.cli.place import endpoints_of
from rpcbroker.config import Configuration
from rpcbroker.host.lock import holder_of
from rpcbroker.store.examine import examine
from rpcbroker.store.location import sqlite_file, store_url

CHECKS: dict[str, Callable[[Subject], Verdicts]] = {
    "configuration": files.configuration,
    "state directory": files.state_directory,
    "signing key": files.signing_key,
    "store": stored.store,
    "disk": stored.disk,
    "process": running.process,
    "ports": ports.ports,
    "certificates": certificates.certificates,
    "clock": clock.clock,
    "open files": limits.open_files,
    "memory": limits.memory,
}


def look(configuration: Configuration, state_dir: Path, *, now: float) -> Subject:
    """Gather the facts. `now` is epoch seconds. Raises StoreError for a store's URL that is none, OSError."""
    url = store_url(configuration.settings.store.url, state_dir)
    file = sqlite_file(url)
    holder = holder_of(state_dir) if state_dir.is_dir() else None
    return Subject(
        settings=configuration.settings,
        warnings=configuration.warnings,
        state_dir=state_dir,
        store_file=file,
        store_name=str(file or make_url(url).render_as_string(hide_password=True)),
        examined=examine(url, at_rest=holder is None) if file is None or file.exists() else None,
        holder=holder,
        endpoints=endpoints_of(state_dir) if holder is not None else {},
        now=now,
        synchronised=machine.synchronised(),
        open_files=machine.open_files(holder),
        memory=machine.memory(),
    )


def run(subject: Subject) -> Iterator[tuple[str, Verdict]]:
    """What each check says. One that fails says that, and the others go on."""
    for name, check in CHECKS.items():
        try:
            for verdict in check(subject):
                yield name, verdict
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            yield name, problem(f"cannot be checked: {where}{error.strerror}", "Run this as the user of the broker.")
