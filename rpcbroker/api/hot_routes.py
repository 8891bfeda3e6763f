"""The routes that are asked most often, found without Klein."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from rpcbroker.api.routes import Route

_PARAMETER = re.compile(r"<(\w+)>")
_UUID, _WORD = "([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})", "([A-Z0-9_]+)"
"""What parameters may be, here: anything else that they can be, Klein makes of them."""
_ENDS_WITH_ID = re.compile(r"([^<]+)/<(\w+_id)>")
_ID = re.compile(_UUID)
ID_SIZE, REMEMBERED = 36, 4_096
"""Bytes of an id, and how many are remembered: a device that is called is mostly called again."""


@lru_cache(REMEMBERED)
def _id(end: bytes) -> str | None:
    """An id as it is mostly written; None if it is anything else."""
    text = end.decode()
    return text if _ID.fullmatch(text) else None


class HotRoutes:
    """A few routes; whatever path leaves a doubt is none of theirs."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_beginning: dict[tuple[bytes, bytes], tuple[Route, str]] = {}
        """Those that have one parameter, an id at the end: with its name, by method and what is before it."""
        self._others: list[tuple[bytes, re.Pattern[str], Route, list[str]]] = []
        for route in routes:
            method = route.method.encode()
            if found := _ENDS_WITH_ID.fullmatch(route.path):
                self._by_beginning[method, found[1].encode()] = route, found[2]
            else:
                self._others.append((method, _pattern(route.path), route, _PARAMETER.findall(route.path)))

    def find(self, method: bytes, path: bytes) -> tuple[Route, dict[str, str]] | None:
        """The route of a request, and its parameters by their names; `path` is ASCII."""
        beginning, _, end = path.rpartition(b"/")
        row = self._by_beginning.get((method, beginning))
        if row is not None:
            text = _id(end) if len(end) == ID_SIZE else None
            return None if text is None else (row[0], {row[1]: text})
        text = path.decode()
        for its_method, pattern, route, names in self._others:
            found = pattern.fullmatch(text)
            if found is not None and its_method == method:
                return route, dict(zip(names, found.groups(), strict=True))
        return None


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(lambda name: _UUID if name[1].endswith("_id") else _WORD, path))
