"""JSONPath (RFC 9535), bounded: an expression of a few letters can name the same value a million times.

Imported only where a chain has such a node, for the package that reads the expressions is large.
"""

from __future__ import annotations

import re
from typing import Any

from jsonpath import JSONPath, JSONPathEnvironment, JSONPathMatch, NodeList, function_extensions
from jsonpath.exceptions import JSONPathError
from jsonpath.filter import FilterQuery, RegexLiteral
from jsonpath.selectors import Filter, IndexSelector, NameSelector, SliceSelector, WildcardSelector

from rpcbroker.core import jsontext

MAX_LENGTH = 1_000
"""Characters of an expression."""
MAX_STEPS = 20_000
"""Values that are looked at for one message, and comparisons of filters: a tenth of a second at most."""
MAX_RESULT = 1 << 20
"""Bytes of an array that is found: what stands in something else may be found with it, at each level once more."""
_SELECTORS = NameSelector, IndexSelector, SliceSelector, WildcardSelector, Filter


class PathRefused(ValueError):
    """It is no JSONPath, or one that is not taken; the message says why."""


class PathFailed(Exception):
    """There is nothing, or it would take too long to find it; the message says which."""


class _Environment(JSONPathEnvironment):
    """Counts what an evaluation does. Evaluations do not overlap, so one counter serves all."""

    def __init__(self) -> None:
        super().__init__(filter_caching=False)
        self.left = 0

    def setup_function_extensions(self) -> None:
        self.function_extensions["length"] = function_extensions.Length()

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise PathFailed(f"The JSON path looks at more than {MAX_STEPS:,} values")

    def is_truthy(self, obj: object) -> bool:
        self.spend(1)
        return super().is_truthy(obj)

    def compare(self, left: object, operator: str, right: object) -> bool:
        if operator not in ("&&", "||") and _is_container(left) and _is_container(right):
            raise PathFailed("A filter of the JSON path compares arrays or objects")
        self.spend(1 + _size(left) + _size(right))
        return super().compare(left, operator, right)


def _is_container(value: object) -> bool:
    return isinstance(value, list | dict) and not isinstance(value, NodeList)


def _size(value: object) -> int:
    """How many steps a comparison takes."""
    if isinstance(value, list | dict):
        return len(value)
    return len(value) // 64 if isinstance(value, str) else 0


_ENVIRONMENT = _Environment()


class _Visit(JSONPathMatch):
    """A value that is looked at. It knows no way back: long keys would make that large."""

    __slots__ = ()

    def __init__(self, *, obj: object, root: Any, **_: Any) -> None:
        _ENVIRONMENT.spend(1)
        super().__init__(filter_context={}, obj=obj, parent=None, path="", parts=(), root=root)

    def new_child(self, obj: object, key: int | str) -> _Visit:
        return _Visit(obj=obj, root=self.root)

    def add_child(self, *children: JSONPathMatch) -> None:
        pass


class Path:
    """One expression."""

    def __init__(self, text: str) -> None:
        """Raises PathRefused."""
        if len(text) > MAX_LENGTH:
            raise PathRefused(f"it has more than {MAX_LENGTH:,} characters")
        try:
            path = _ENVIRONMENT.compile(text)
        except (JSONPathError, ArithmeticError, RecursionError, re.error, ValueError) as error:
            raise PathRefused((str(error).splitlines() or ["no JSON path"])[0]) from None
        if not isinstance(path, JSONPath) or path.pseudo_root:
            raise PathRefused("it is more than one path, or does not begin at the root")
        _check(path)
        self._path = path
        self._single = path.singular_query()

    def find(self, data: Any) -> bytes:
        """The value there as JSON; an array of all where it may be several. Raises PathFailed."""
        _ENVIRONMENT.left = MAX_STEPS
        found: Any = [_Visit(obj=data, root=data)]
        try:
            for segment in self._path.segments:
                found = segment.resolve(found)
            values = [match.obj for match in found]
        except JSONPathError as error:
            raise PathFailed(str(error)) from None
        if not self._single:
            return _array(values)
        if not values:
            raise PathFailed("There is nothing at the JSON path")
        return jsontext.encode(values[0])


def _array(values: list[Any]) -> bytes:
    """Of values that may stand in each other, each as it is."""
    texts, left = [], MAX_RESULT
    for each in values:
        texts.append(jsontext.encode(each))
        left -= len(texts[-1])
        if left < 0:
            raise PathFailed(f"What is at the JSON path is larger than {MAX_RESULT:,} bytes")
    return b"[" + b",".join(texts) + b"]"


def _check(path: JSONPath) -> None:
    """Raises PathRefused for what is not in the standard, and for filters that may take long."""
    selectors = [selector for segment in path.segments for selector in segment.selectors]
    if not all(isinstance(selector, _SELECTORS) for selector in selectors):
        raise PathRefused("it has a selector that is not in RFC 9535")
    todo: list[Any] = [selector.expression for selector in selectors if isinstance(selector, Filter)]
    while todo:
        part = todo.pop()
        if isinstance(part, RegexLiteral):
            raise PathRefused("regular expressions are not taken here")
        if isinstance(part, FilterQuery) and not part.path.singular_query():
            raise PathRefused("a filter may look at single values only, as in @.a.b")
        todo += part.children()
