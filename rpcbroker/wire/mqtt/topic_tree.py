"""Values by topic name, found by topic filter and taken a few at a time: retained messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class _Node(Generic[V]):
    """One level. It has a topic if one ends here; a node without topic and children is taken out.

    Siblings are linked, and new ones come first. So a walk needs no copy of them, and it goes on from a
    node that was taken out meanwhile: that has nothing to give, but knows its way back to the others.
    """

    __slots__ = ("after", "before", "children", "first", "topic", "value")

    def __init__(self) -> None:
        self.topic: str | None = None
        self.value: V | None = None
        self.children: dict[str, _Node[V]] | None = None
        self.first: _Node[V] | None = None
        self.before: _Node[V] | None = None
        self.after: _Node[V] | None = None

    def child(self, level: str) -> _Node[V]:
        """The one below, made if need be."""
        if self.children is None:
            self.children = {}
        node = self.children.get(level)
        if node is None:
            node = self.children[level] = _Node()
            node.after = self.first
            if self.first is not None:
                self.first.before = node
            self.first = node
        return node

    def take_out(self, level: str) -> None:
        """Forget the one below. It keeps `after`, for who stands on it."""
        assert self.children is not None
        node = self.children.pop(level)
        if node.before is None:
            self.first = node.after
        else:
            node.before.after = node.after
        if node.after is not None:
            node.after.before = node.before
        node.before = None
        if not self.children:
            self.children = None


class TopicTree(Generic[V]):
    """A mapping of topic names to values that can be asked by topic filter. Its depth costs no stack."""

    __slots__ = ("_dollar", "_plain", "_size")

    def __init__(self) -> None:
        # A filter that begins with a wildcard does not match a topic that begins with '$' (MQTT-4.7.2-1):
        # those have a tree of their own, which no such filter looks at.
        self._plain: _Node[V] = _Node()
        self._dollar: _Node[V] = _Node()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, topic: str, value: V) -> bool:
        """Whether the topic is new; if it is not, its value is replaced."""
        node = self._root(topic)
        for level in topic.split("/"):
            node = node.child(level)
        new = node.topic is None
        self._size += new
        node.topic = topic
        node.value = value
        return new

    def get(self, topic: str) -> V | None:
        """Its value, or None."""
        node: _Node[V] | None = self._root(topic)
        for level in topic.split("/"):
            if node is None or node.children is None:
                return None
            node = node.children.get(level)
        return None if node is None else node.value

    def pop(self, topic: str) -> V | None:
        """Its value, which is taken out, or None. What then has no use any more is freed."""
        path = [self._root(topic)]
        levels = topic.split("/")
        for level in levels:
            children = path[-1].children
            if children is None or level not in children:
                return None
            path.append(children[level])
        node = path.pop()
        if node.topic is None:
            return None
        value = node.value
        node.topic = node.value = None
        self._size -= 1
        while path and node.topic is None and node.children is None:
            node = path.pop()
            node.take_out(levels.pop())
        return value

    def search(self, topic_filter: str) -> Iterator[tuple[str, V] | None]:
        """Topics that match, with their values, one at a time and in no order; no copy is made of anything.

        It goes in steps of the same small cost: one for each node looked at, and None if it has nothing. A filter like
        `+/+/x` may look at all topics and find none, so who must not keep others waiting takes so many steps at a time.

        The tree may change between two of them. Each topic that is there from the first to the last
        comes once; one that is put or popped meanwhile comes once or not at all. The value is the one
        at the time when it is given.
        """
        levels = topic_filter.split("/")
        # A node, how many levels of the filter it has matched, and whether its siblings do so as well.
        waiting: list[tuple[_Node[V], int, bool]] = [(self._root(topic_filter), 0, False)]
        while waiting:
            node, depth, siblings = waiting.pop()
            if siblings and node.after is not None:
                waiting.append((node.after, depth, True))
            level = levels[depth] if depth < len(levels) else None
            if (level is None or level == "#") and node.topic is not None:  # `a/#` matches `a`: 4.7.1.2
                yield node.topic, node.value  # type: ignore[misc]  # a node with a topic has a value
            else:
                yield None
            if level is None:
                continue
            if level == "#" or level == "+":
                if node.first is not None:
                    waiting.append((node.first, depth + (level == "+"), True))
            elif node.children is not None and (child := node.children.get(level)) is not None:
                waiting.append((child, depth + 1, False))

    def _root(self, text: str) -> _Node[V]:
        return self._dollar if text.startswith("$") else self._plain
