"""The routes that are asked most often, found without Klein."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rpcbroker.api.routes import Route

_PARAMETER = re.compile(r"<(\w+)>")
_UUID, _WORD = "([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})", "([A-Z0-9_]+)"
"""What parameters may be, here: anything else that they can be, Klein makes of them."""


class HotRoutes:
    """A few routes; whatever path leaves a doubt is none of theirs."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._rows = {f"route{number}": route for number, route in enumerate(routes)}
        patterns = (f"(?P<{name}>{_pattern(route.path)})" for name, route in self._rows.items())
        self._pattern = re.compile("|".join(patterns) or "(?!)")

    def find(self, method: bytes, path: bytes) -> tuple[Route, dict[str, str]] | None:
        """The route of a request, and its parameters by their names."""
        found = self._pattern.fullmatch(path.decode("ascii"))
        if found is None or found.lastgroup is None:
            return None
        route = self._rows[found.lastgroup]
        if route.method.encode() != method:
            return None
        values = [text for text in found.groups()[found.lastindex :] if text is not None]
        return route, dict(zip(_PARAMETER.findall(route.path), values, strict=True))


def _pattern(path: str) -> str:
    return _PARAMETER.sub(lambda name: _UUID if name[1].endswith("_id") else _WORD, path)
