"""Configuration, state directory, signing key."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from pathlib import Path

from rpcbroker.cli.checks.subject import Subject, Verdicts, ok, problem, warning
from rpcbroker.service import KEY_BYTES

_WRITABLE_BY_OTHERS = 0o022
_OPEN_TO_OTHERS = 0o077
KEY = "jwt-signing-key"
FIRST_PASSWORD = "initial-admin-password"  # noqa: S105 - the name of a file


def configuration(subject: Subject) -> Verdicts:
    """It was read, else nothing would come this far."""
    for text in subject.warnings:
        yield warning(text, "rpcbroker config show prints every value, and where it comes from.")
    if not subject.warnings:
        yield ok("it can be used")


def state_directory(subject: Subject) -> Verdicts:
    """The broker can write there, and nobody else can read its secrets."""
    directory = subject.state_dir
    if not directory.exists():
        yield warning(f"{directory} is not there; the first start makes it", "Is it the right one? --state-dir DIR")
        return
    if not directory.is_dir():
        yield problem(f"{directory} is no directory", "Name another one, or move that file away.")
        return
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield problem(
            f"{directory}: the user {getpass.getuser()} may not write there", "Run this as the user of the broker."
        )
        return
    found = list(_wrong_with(directory, _secrets(subject)))
    for text, hint in found:
        yield problem(text, hint)
    if not found:
        yield ok(f"{directory} is writable, and its secrets are its owner's alone")


def signing_key(subject: Subject) -> Verdicts:
    """The tokens of users are signed with it."""
    path = subject.state_dir / KEY
    if not path.exists():
        if subject.examined is None:
            yield ok("the first start makes one")
        else:
            yield warning("there is none; the next start makes one", "All users will have to log in again.")
        return
    again = f"Remove {path}: the next start makes a new one, and all users log in again."
    try:
        key = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        yield problem(f"{path} cannot be read: {error.strerror}", "Run this as the user of the broker.")
    except ValueError:
        yield problem(f"{path} is no key: it must be hexadecimal digits", again)
    else:
        if len(key) < KEY_BYTES:
            yield problem(f"{path} has {len(key)} bytes, {KEY_BYTES} are needed", again)
        else:
            yield ok(f"it has {len(key)} bytes")


def _secrets(subject: Subject) -> list[Path]:
    found = [subject.state_dir / KEY, subject.state_dir / FIRST_PASSWORD]
    if subject.store_file:  # also its WAL, and copies that were kept of it
        found += sorted(subject.store_file.parent.glob(f"{subject.store_file.name}*"))
    return [path for path in found if path.is_file()]


def _wrong_with(directory: Path, secrets: Iterable[Path]) -> Iterable[tuple[str, str]]:
    status = directory.stat()
    if status.st_mode & _WRITABLE_BY_OTHERS:
        yield f"others may write to {directory}", f"chmod 700 {directory}"
    for path in secrets:
        its = path.stat()
        if its.st_mode & _OPEN_TO_OTHERS:
            yield f"others may open {path}, which holds secrets", f"chmod 600 {path}"
        if its.st_uid != status.st_uid:
            yield f"{path} and {directory} have different owners", f"chown --reference={directory} {path}"
