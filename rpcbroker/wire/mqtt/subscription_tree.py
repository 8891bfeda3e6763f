"""Who subscribed to what: found by topic, in the time of the topic's levels."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Node(Generic[K, V]):
    """One level of the filters that have a wildcard; made of nothing until it is needed."""

    __slots__ = ("below", "here", "named", "plus")

    def __init__(self) -> None:
        self.named: dict[str, _Node[K, V]] | None = None
        """The next level, by its name."""
        self.plus: _Node[K, V] | None = None
        """The next level where it is '+'."""
        self.here: dict[K, V] | None = None
        """Those whose filter ends here."""
        self.below: dict[K, V] | None = None
        """Those whose filter goes on with '#': from this level down, this one too (4.7.1.2)."""


class SubscriptionTree(Generic[K, V]):
    """Topic filters, each with any number of keys, and a value for each pair of filter and key.

    Filters without a wildcard are found at once, by their text. The others are a tree with one node a
    level; a search keeps the nodes that still fit, so it looks at no more nodes in a level than there
    are different filters, and its depth costs no stack. Filters are to be checked before (`check_filter`).
    """

    __slots__ = ("_dollar", "_plain", "_size", "_texts")

    def __init__(self) -> None:
        self._texts: dict[str, dict[K, V]] = {}
        # A filter that begins with a wildcard does not match a topic that begins with '$' (MQTT-4.7.2-1):
        # what begins with '$' has a tree of its own, in which no such filter can be.
        self._plain: _Node[K, V] = _Node()
        self._dollar: _Node[K, V] = _Node()
        self._size = 0

    def __len__(self) -> int:
        """How many pairs of filter and key there are."""
        return self._size

    def add(self, topic_filter: str, key: K, value: V) -> bool:
        """Whether this filter is new for this key; if it is not, its value is replaced (MQTT-3.8.4-3)."""
        values = self._values(topic_filter)
        size = len(values)
        values[key] = value
        self._size += len(values) - size
        return len(values) > size

    def _values(self, topic_filter: str) -> dict[K, V]:
        """Those of this filter, to be added to."""
        if "+" not in topic_filter and "#" not in topic_filter:
            return self._texts.setdefault(topic_filter, {})
        node = self._root(topic_filter)
        for level in topic_filter.split("/"):
            if level == "#":
                if node.below is None:
                    node.below = {}
                return node.below
            if level == "+":
                if node.plus is None:
                    node.plus = _Node()
                node = node.plus
            else:
                if node.named is None:
                    node.named = {}
                child = node.named.get(level)
                if child is None:
                    child = node.named[level] = _Node()
                node = child
        if node.here is None:
            node.here = {}
        return node.here

    def discard(self, topic_filter: str, key: K) -> bool:
        """Whether it was there. What then has no use any more is freed."""
        if "+" not in topic_filter and "#" not in topic_filter:
            values = self._texts.get(topic_filter)
            if values is None or key not in values:
                return False
            del values[key]
            if not values:
                del self._texts[topic_filter]
        elif not self._discard_from_tree(topic_filter, key):
            return False
        self._size -= 1
        return True

    def _discard_from_tree(self, topic_filter: str, key: K) -> bool:
        levels = topic_filter.split("/")
        endless = levels[-1] == "#"
        if endless:
            levels.pop()
        path = [self._root(topic_filter)]
        for level in levels:
            node = path[-1]
            child = node.plus if level == "+" else (node.named or {}).get(level)
            if child is None:
                return False
            path.append(child)
        node = path.pop()
        values = node.below if endless else node.here
        if values is None or key not in values:
            return False
        del values[key]
        if not values:
            if endless:
                node.below = None
            else:
                node.here = None
        while path and not (node.plus or node.named or node.here or node.below):
            node = path.pop()
            level = levels.pop()
            if level == "+":
                node.plus = None
            elif node.named is not None:
                del node.named[level]
                node.named = node.named or None
        return True

    def match(self, topic: str) -> list[tuple[K, V]]:
        """The keys and values of every filter that matches this topic name, one for each filter, in no order."""
        values = self._texts.get(topic)
        found = list(values.items()) if values is not None else []
        nodes = [self._root(topic)]
        for level in topic.split("/"):
            fitting = []
            for node in nodes:
                if node.below is not None:
                    found += node.below.items()
                if node.named is not None and (child := node.named.get(level)) is not None:
                    fitting.append(child)
                if node.plus is not None:
                    fitting.append(node.plus)
            if not fitting:
                return found
            nodes = fitting
        for node in nodes:
            if node.here is not None:
                found += node.here.items()
            if node.below is not None:
                found += node.below.items()
        return found

    def _root(self, text: str) -> _Node[K, V]:
        return self._dollar if text.startswith("$") else self._plain
