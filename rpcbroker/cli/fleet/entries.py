"""One device of a file, whatever the file's format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from rpcbroker.schema.common import Text
from rpcbroker.schema.devices import CredentialsJSON, DeviceInfoJSON, GivenCredentials, PutDeviceBody


class StrictCredentials(GivenCredentials, forbid_unknown_fields=True, omit_defaults=True, rename="camel", kw_only=True):
    """A member that is mistyped must not become a token that is made up."""


class Entry(PutDeviceBody, forbid_unknown_fields=True, omit_defaults=True, rename="camel", kw_only=True):
    """What the device `name` shall be like; members that are absent stay as they are."""

    name: Text
    credentials: StrictCredentials | None = None

    def body(self) -> PutDeviceBody:
        """The same, as it is sent."""
        members = msgspec.structs.asdict(self)
        del members["name"]
        return PutDeviceBody(**members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What begins at a line of a file, the first of which is 1: an entry, or an error in words.

    `info` are members of additionalInfo that are put into what is there already.
    """

    number: int
    entry: Entry | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def each_once(lines: Iterable[Line]) -> Iterator[Line]:
    """The same lines, but a name that was there before is an error: which of the two would hold?"""
    seen: dict[str, int] = {}
    for line in lines:
        if line.entry is not None:
            name = line.entry.name.strip()
            first = seen.setdefault(name, line.number)
            if not name:
                line = replace(line, entry=None, error="it has no name")
            elif first != line.number:
                line = replace(line, entry=None, error=f"{name!r} is on line {first} already")
        yield line


def entry_of(info: DeviceInfoJSON, credentials: CredentialsJSON | None) -> Entry:
    """A device as it is, said in full: an import makes another one the same."""
    given = None
    if credentials is not None:
        token = credentials.credentials_type == "ACCESS_TOKEN"
        given = StrictCredentials(
            credentials_type=credentials.credentials_type,
            credentials_id=credentials.credentials_id if token else None,
            credentials_value=credentials.credentials_value,
        )
    return Entry(
        name=info.name,
        type=info.type,
        label=info.label or "",
        additional_info=info.additional_info,
        customer_title=info.customer_title or "",
        credentials=given,
    )
