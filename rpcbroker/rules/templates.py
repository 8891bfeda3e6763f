"""Texts with places for what a message says: `${key}` of its metadata, `$[field]` and `$[a.b]` of its data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from rpcbroker.core import jsontext
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage

MAX_TEXT = 1 << 20
"""Characters of what comes of one template, and of the names of fields in it: a short one may name a long value many
times."""

_PLACE = re.compile(r"\$\{([^{}]*)\}|\$\[([^\[\]]*)\]")
_NOTHING: Mapping[str, Any] = {}


class Template:
    """One text, compiled once.

    What the message does not have, or what is no single value there, stays in the text as it was written. Values are
    not looked into: what a device sends is never taken for a place itself. `$[${key}]` names the field that the
    metadata name.
    """

    __slots__ = ("_coded", "_fields", "_parts", "text")

    def __init__(self, text: str, coded: Callable[[str], str] = str) -> None:
        """`coded` is what stands there for a value."""
        self.text = text
        self._coded = coded
        self._parts: list[tuple[str, str | None, Template | None]] = []
        """What is written, the key of the metadata that it stands for, or the path in the data."""
        self._fields = False
        end = 0
        for found in _PLACE.finditer(text):
            self._parts.append((text[end : found.start()], None, None))
            key, path = found.groups()
            self._parts.append((found[0], key, None if path is None else Template(path)))
            self._fields |= path is not None
            end = found.end()
        self._parts.append((text[end:], None, None))

    def fill(self, message: RuleMessage) -> str:
        """The text for this message. Raises NodeFailed when it becomes too long."""
        if len(self._parts) == 1:
            return self.text
        metadata = message.metadata
        body = _object_of(message) if self._fields else _NOTHING
        filled = []
        left = MAX_TEXT
        for written, key, path in self._parts:
            value = None
            if key is not None:
                value = metadata.get(key)
            elif path is not None:
                named = path.fill(message)
                left -= len(named)
                value = _value(body, named)
            if value is not None and len(value) <= left:
                value = self._coded(value)
            filled.append(written if value is None else value)
            left -= len(filled[-1])
            if left < 0:
                raise NodeFailed(f"What comes of a template is longer than {MAX_TEXT:,} characters")
        return "".join(filled)


def _object_of(message: RuleMessage) -> Mapping[str, Any]:
    """The message's data, if it is an object."""
    try:
        body = message.body()
    except jsontext.BadJSON:
        return _NOTHING
    return body if type(body) is dict else _NOTHING


def _value(body: Mapping[str, Any], path: str) -> str | None:
    """The text of what stands there, if it is a single value."""
    found: Any = body
    for key in path.split("."):
        if type(found) is not dict or key not in found:
            return None
        found = found[key]
    return text_of(found) if type(found) not in (dict, list) else None


def text_of(value: Any) -> str:
    """A value of JSON as the metadata have it: a text as it is, all else as JSON text."""
    return value if isinstance(value, str) else jsontext.encode(value).decode()
