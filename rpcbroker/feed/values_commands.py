"""What comes over ThingsBoard's own WebSocket: commands in JSON, read as leniently as its clients write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rpcbroker.core import jsontext
from rpcbroker.core.jsontext import BadJSON

ATTRIBUTES, TIMESERIES, HISTORY = "ATTRIBUTES", "TIMESERIES", "TIMESERIES_HISTORY"
LISTS = {"attrSubCmds": ATTRIBUTES, "tsSubCmds": TIMESERIES, "historyCmds": HISTORY}
"""Where older clients put commands, by what they are; newer ones put all into `cmds`, with their `type`."""
LATEST = "LATEST_TELEMETRY"
UPDATES = {"ENTITY_COUNT": "COUNT_DATA", "ALARM_COUNT": "ALARM_COUNT_DATA"}
"""What answers to commands of other types are called, where that is not the type."""


class Login(msgspec.Struct, rename="camel"):
    """`authCmd`: a JSON Web Token, or an API key."""

    token: str | None = None
    api_key: str | None = None

    @property
    def ticket(self) -> str:
        """Empty if there is neither."""
        return self.token or self.api_key or ""


class Command(msgspec.Struct, rename="camel", kw_only=True):
    """One of `cmds`. Times are epoch ms; members that are null are as absent."""

    type: str
    cmd_id: int
    entity_type: str | None = None
    entity_id: str | None = None
    scope: str | None = None
    keys: str | None = None
    unsubscribe: bool | None = None
    start_ts: int | None = None
    end_ts: int | None = None
    time_window: int | None = None
    limit: int | None = None
    agg: str | None = None


class Misread(msgspec.Struct):
    """A command that cannot be read; `cmd_id` is -1 if not even that can."""

    cmd_id: int
    why: str


def parse(text: bytes) -> tuple[Login | None, list[Command | Misread]]:
    """One message. Raises BadJSON if it is no JSON object."""
    message = jsontext.decode(text)
    if not isinstance(message, dict):
        raise BadJSON("a message must be a JSON object")
    login = message.pop("authCmd", None)
    return None if login is None else _login(login), list(_commands(message))


def _login(value: Any) -> Login:
    try:
        return msgspec.convert(value, Login)
    except msgspec.ValidationError as error:
        raise BadJSON(f"authCmd: {error}") from None


def _commands(message: dict[str, Any]) -> Iterator[Command | Misread]:
    """In the order in which they stand there."""
    for name, values in message.items():
        if not isinstance(values, list):
            continue
        kind = LISTS.get(name) or (None if name == "cmds" else name.removesuffix("Cmds"))
        yield from (_command(value, kind) for value in values)


def _command(value: Any, kind: str | None) -> Command | Misread:
    if not isinstance(value, dict):
        return Misread(-1, "a command must be a JSON object")
    given = value if kind is None else value | {"type": kind}
    try:
        return msgspec.convert(given, Command)
    except msgspec.ValidationError as error:
        cmd_id = value.get("cmdId")
        return Misread(cmd_id if type(cmd_id) is int else -1, str(error))
