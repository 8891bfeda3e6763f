"""The tree of topics against a dict of them, also while somebody walks in it."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from wire.naive import filters, fits, topics

from rpcbroker.wire.mqtt.topic_tree import TopicTree

V = TypeVar("V")


def tree_of(*names: str) -> TopicTree[str]:
    tree: TopicTree[str] = TopicTree()
    for name in names:
        tree.put(name, name.upper())
    return tree


def match(tree: TopicTree[V], topic_filter: str) -> Iterator[tuple[str, V]]:
    """What a search finds."""
    return (found for found in tree.search(topic_filter) if found is not None)


def names(found: Iterator[tuple[str, str]]) -> list[str]:
    return [topic for topic, _ in found]


class Walk:
    """One that goes on while the tree changes, and what it has to bring."""

    def __init__(self, topic_filter: str, found: Iterator[tuple[str, int]], there: set[str]) -> None:
        self.filter = topic_filter
        self.found = found
        self.owed = {topic for topic in there if fits(topic_filter, topic)}
        self.may_come = set(self.owed)
        self.came: set[str] = set()


class TreeAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree: TopicTree[int] = TopicTree()
        self.model: dict[str, int] = {}
        self.walks: list[Walk] = []

    @rule(topic=topics, value=st.integers())
    def put(self, topic: str, value: int) -> None:
        assert self.tree.put(topic, value) is (topic not in self.model)
        self.model[topic] = value
        for walk in self.walks:
            if fits(walk.filter, topic):
                walk.may_come.add(topic)

    def _pop(self, topic: str) -> None:
        assert self.tree.pop(topic) == self.model.pop(topic, None)
        for walk in self.walks:
            walk.owed.discard(topic)

    @rule(topic=topics)
    def pop(self, topic: str) -> None:
        self._pop(topic)

    @rule(data=st.data())
    def pop_one_that_is_there(self, data: st.DataObject) -> None:
        if self.model:
            self._pop(data.draw(st.sampled_from(sorted(self.model))))

    @rule(topic=topics)
    def get(self, topic: str) -> None:
        assert self.tree.get(topic) == self.model.get(topic)

    @rule(topic_filter=filters)
    def match(self, topic_filter: str) -> None:
        found = list(match(self.tree, topic_filter))
        assert dict(found) == {topic: value for topic, value in self.model.items() if fits(topic_filter, topic)}
        assert len(found) == len(dict(found))

    @rule(topic_filter=filters)
    def begin_a_walk(self, topic_filter: str) -> None:
        self.walks.append(Walk(topic_filter, match(self.tree, topic_filter), set(self.model)))

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        if self.walks:
            walk = data.draw(st.sampled_from(self.walks))
            self._take(walk, data.draw(st.integers(1, 3)))

    def _take(self, walk: Walk, size: int | None) -> None:
        for topic, value in itertools.islice(walk.found, size):
            assert topic in walk.may_come
            assert topic not in walk.came
            assert value == self.model[topic]
            walk.came.add(topic)

    @invariant()
    def the_length_is_right(self) -> None:
        assert len(self.tree) == len(self.model)

    def teardown(self) -> None:
        for walk in self.walks:
            self._take(walk, None)
            assert walk.owed <= walk.came
        for topic, value in self.model.items():
            assert self.tree.pop(topic) == value
        for root in (self.tree._plain, self.tree._dollar):
            assert {getattr(root, name) for name in root.__slots__} == {None}


TestTreeAgainstDict = TreeAgainstDict.TestCase


def test_a_topic_matches_with_and_without_wildcards() -> None:
    tree = tree_of("a/b", "a", "$SYS/a", "/")
    assert sorted(match(tree, "#")) == [("/", "/"), ("a", "A"), ("a/b", "A/B")]
    assert names(match(tree, "a/#")) == ["a", "a/b"]
    assert names(match(tree, "$SYS/#")) == ["$SYS/a"]
    assert names(match(tree, "a/b")) == ["a/b"]
    assert names(match(tree, "a/c")) == []
    assert tree.get("a/b") == "A/B"
    assert tree.get("a/b/c") is tree.get("b") is tree.pop("b") is tree.pop("a/b/c") is None


def test_a_topic_in_the_middle_of_others_is_not_there() -> None:
    tree = tree_of("a/b/c")
    assert tree.get("a/b") is tree.pop("a/b") is None
    assert names(match(tree, "a/+")) == []
    assert len(tree) == 1


def test_a_walk_goes_on_from_what_is_taken_out_under_it() -> None:
    tree = tree_of(*(f"d/{number}/x" for number in range(9)))
    walk = match(tree, "d/+/x")
    topic, _ = next(walk)
    others = {f"d/{number}/x" for number in range(9)} - {topic}
    kept = sorted(others)[4]
    for gone in others - {kept}:
        tree.pop(gone)
    tree.pop(topic)
    tree.put("d/new/x", "")
    assert names(walk) == [kept]


def test_a_walk_among_many_copies_nothing_and_begins_at_once() -> None:
    tree = tree_of(*(f"d/{number}" for number in range(50_000)))
    tracemalloc.start()
    try:
        walk = match(tree, "#")
        assert len(list(itertools.islice(walk, 100))) == 100
        assert tracemalloc.get_traced_memory()[1] < 30_000
    finally:
        tracemalloc.stop()


def test_a_search_that_finds_nothing_is_in_steps() -> None:
    tree = tree_of(*(f"d/{number}/x" for number in range(1_000)))
    steps = tree.search("+/+/y")
    assert list(itertools.islice(steps, 500)) == [None] * 500
    assert len(list(steps)) < 600


def test_the_deepest_topics_cost_no_stack_and_leave_nothing() -> None:
    tree: TopicTree[int] = TopicTree()
    deep = ["/" * 32_767, "a/" * 32_767, "a/" * 10_000]
    for topic in deep:
        tree.put(topic, 1)
    assert len(list(match(tree, "#"))) == 3
    assert len(list(match(tree, "+/" * 32_767 + "+"))) == 2
    assert len(list(match(tree, "a/" * 9_000 + "#"))) == 2
    for topic in deep:
        assert tree.pop(topic) == 1
    assert list(match(tree, "#")) == []
    assert tree._plain.children is None
