"""Texts in configurations of nodes that name what messages have: `${metadataKey}` and `$[field.of.data]`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rpcbroker.core import jsontext
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage

Template = Callable[[RuleMessage], str]
"""The text for a message. Raises NodeFailed where a field is wanted of data that is no JSON."""

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}|\$\[([^\]]*)\]")


def template_of(text: str, coded: Callable[[str], str] = str) -> Template:
    """What stands for `text`, with each value `coded`. What names nothing, or an object or array, stays as it is.

    Values are not looked through for placeholders again.
    """
    found = list(_PLACEHOLDER.finditer(text))
    if not found:
        return lambda message: text
    of_data = any(match[2] is not None for match in found)

    def fill(message: RuleMessage) -> str:
        body = _body(message) if of_data else None
        metadata = message.metadata

        def value(match: re.Match[str]) -> str:
            got = metadata.get(match[1]) if match[2] is None else _field(body, match[2])
            return match[0] if got is None else coded(got)

        return _PLACEHOLDER.sub(value, text)

    return fill


def _body(message: RuleMessage) -> Any:
    try:
        return message.body()
    except jsontext.BadJSON as error:
        raise NodeFailed(f"The message is not JSON: {error}") from None


def _field(body: Any, path: str) -> str | None:
    for key in path.split("."):
        if not isinstance(body, dict) or key not in body:
            return None
        body = body[key]
    if isinstance(body, dict | list):
        return None
    return body if isinstance(body, str) else jsontext.encode(body).decode()
