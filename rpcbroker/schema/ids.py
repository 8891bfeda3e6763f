"""UUIDs as Java reads them: groups may be shorter than usual."""

from __future__ import annotations

import re
from functools import lru_cache
from uuid import UUID

from rpcbroker.core.errors import InvalidRequest

_WIDTHS = (8, 4, 4, 4, 12)
_LENIENT = re.compile("-".join(f"([0-9a-fA-F]{{1,{width}}})" for width in _WIDTHS))


@lru_cache(4096)
def parse_uuid(text: str) -> UUID:
    """`1-1-1-1-1` is a UUID too. Raises InvalidRequest that shows the text."""
    match = _LENIENT.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"Invalid UUID string: {text[:100]}")
    return UUID("".join(group.rjust(width, "0") for group, width in zip(match.groups(), _WIDTHS, strict=True)))
