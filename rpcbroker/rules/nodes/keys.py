"""Nodes that delete, copy and rename members of the data, and of the metadata, of a message.

Keys are regular expressions. Each message of a device is matched against them in the reactor's thread, so they are run
by RE2, which takes no more time than a key is long times the steps of the expression; and these are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Any

import msgspec

from rpcbroker.core import jsontext
from rpcbroker.rules.errors import BadConfiguration
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import body_of, with_metadata
from rpcbroker.rules.templates import text_of
from rpcbroker.rules.types import FAILURE, SUCCESS

MAX_STEPS = 500
"""Of all regular expressions of one node, as RE2 counts them: a letter is about one. Then 64 KiB of keys take at most
a tenth of a second."""
MAX_KEY = 1_000
"""Characters of a key that expressions are tried at."""
_PLAIN = re.compile(r"[\w :/-]*")


class Keys:
    """A set of keys, some of which are given by regular expressions that match the whole of them."""

    def __init__(self, given: Iterable[str]) -> None:
        """Raises BadConfiguration for what is no regular expression, or too large a one."""
        given = set(given)
        self._plain = {key for key in given if _PLAIN.fullmatch(key)}
        expressions = sorted(given - self._plain)
        self._expression = _compiled(expressions) if expressions else None

    def __contains__(self, key: str) -> bool:
        if key in self._plain:
            return True
        return self._expression is not None and len(key) <= MAX_KEY and bool(self._expression.fullmatch(key))


def _compiled(expressions: list[str]) -> Any:
    import re2  # only chains with such keys need it

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20  # bytes of one expression, with what it remembers of the keys that came
    steps = 0
    for each in expressions:
        try:
            steps += re2.compile(each, options).programsize
        except re2.error as error:
            reason = error.args[0].decode(errors="replace") if error.args else ""
            said = f"the key {each[:100]!r} is no regular expression that RE2 takes: {reason[:100]}"
            raise BadConfiguration(said) from None
        if steps > MAX_STEPS:
            raise BadConfiguration(f"the regular expressions of the keys have more than {MAX_STEPS} steps together")
    return re2.compile("|".join(f"(?:{each})" for each in expressions), options)


class Part(StrEnum):
    """Of a message."""

    DATA = "DATA"
    METADATA = "METADATA"


def _part(newer: Part | None, older: bool | None, name: str) -> Part:
    """What is configured; older exports say `fromMetadata` instead."""
    if newer is None and older is None:
        raise ValueError(f"there is no {name}, which is DATA or METADATA")
    return newer or (Part.METADATA if older else Part.DATA)


class DeleteConfiguration(msgspec.Struct, rename="camel"):
    """Which keys, of what."""

    keys: list[str]
    delete_from: Part | None = None
    from_metadata: bool | None = None

    def __post_init__(self) -> None:
        self.delete_from = _part(self.delete_from, self.from_metadata, "deleteFrom")


class DeleteNode:
    """Takes members away."""

    def __init__(self, configuration: DeleteConfiguration, place: Place) -> None:
        self._keys = Keys(configuration.keys)
        self._part = configuration.delete_from

    def __call__(self, message: RuleMessage) -> Outcome:
        if self._part is Part.METADATA:
            return _succeeded(message, metadata=self._kept(message.metadata))
        body = body_of(message)
        return _succeeded(message, data=self._kept(body) if type(body) is dict else body)

    def _kept(self, members: Any) -> dict[str, Any]:
        return {key: value for key, value in members.items() if key not in self._keys}


class CopyConfiguration(msgspec.Struct, rename="camel"):
    """Which keys, and from where: they are copied to the other one."""

    keys: list[str]
    copy_from: Part | None = None
    from_metadata: bool | None = None

    def __post_init__(self) -> None:
        self.copy_from = _part(self.copy_from, self.from_metadata, "copyFrom")


class CopyNode:
    """Copies members from data to metadata, where they become texts, or the other way."""

    def __init__(self, configuration: CopyConfiguration, place: Place) -> None:
        self._keys = Keys(configuration.keys)
        self._part = configuration.copy_from

    def __call__(self, message: RuleMessage) -> Outcome:
        body = body_of(message)
        if type(body) is not dict:
            return _succeeded(message)
        if self._part is Part.METADATA:
            return _succeeded(message, data=body | self._copied(message.metadata))
        copied = {key: text_of(value) for key, value in self._copied(body).items()}
        return (Out(SUCCESS, with_metadata(message, copied)),)

    def _copied(self, members: Any) -> dict[str, Any]:
        return {key: value for key, value in members.items() if key in self._keys}


class RenameConfiguration(msgspec.Struct, rename="camel"):
    """Which keys become which, and where."""

    rename_keys_mapping: dict[str, str]
    rename_in: Part | None = None
    from_metadata: bool | None = None

    def __post_init__(self) -> None:
        self.rename_in = _part(self.rename_in, self.from_metadata, "renameIn")
        if not self.rename_keys_mapping:
            raise ValueError("renameKeysMapping is empty")


class RenameNode:
    """Gives members other keys, one after the other as they are configured."""

    def __init__(self, configuration: RenameConfiguration, place: Place) -> None:
        self._names = configuration.rename_keys_mapping
        self._part = configuration.rename_in

    def __call__(self, message: RuleMessage) -> Outcome:
        if self._part is Part.METADATA:
            return _succeeded(message, metadata=self._renamed(message.metadata))
        body = body_of(message)
        return _succeeded(message, data=self._renamed(body) if type(body) is dict else body)

    def _renamed(self, members: Any) -> dict[str, Any]:
        renamed = dict(members)
        for old, new in self._names.items():
            if old in renamed and old != new:
                renamed[new] = renamed.pop(old)
        return renamed


_AS_IT_IS: Any = object()


def _succeeded(message: RuleMessage, *, data: Any = _AS_IT_IS, metadata: dict[str, str] | None = None) -> Outcome:
    if data is not _AS_IT_IS:
        message = replace(message, data=jsontext.encode(data))
    if metadata is not None:
        message = replace(message, metadata=metadata)
    return (Out(SUCCESS, message),)


DELETE = NodeType(
    name="org.thingsboard.rule.engine.transform.TbDeleteKeysNode",
    configuration=DeleteConfiguration,
    make=DeleteNode,
    labels=(SUCCESS, FAILURE),
)
COPY = NodeType(
    name="org.thingsboard.rule.engine.transform.TbCopyKeysNode",
    configuration=CopyConfiguration,
    make=CopyNode,
    labels=(SUCCESS, FAILURE),
)
RENAME = NodeType(
    name="org.thingsboard.rule.engine.transform.TbRenameKeysNode",
    configuration=RenameConfiguration,
    make=RenameNode,
    labels=(SUCCESS, FAILURE),
)
