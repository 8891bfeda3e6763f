"""The tree of filters against a list of them."""

from __future__ import annotations

import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from wire.naive import filters, fits, topics

from rpcbroker.wire.mqtt.subscription_tree import SubscriptionTree


def is_bare(tree: SubscriptionTree[str, int]) -> bool:
    """Whether nothing is left of what was there."""
    bare: SubscriptionTree[str, int] = SubscriptionTree()
    return not tree._texts and all(
        getattr(root, name) == getattr(bare._plain, name)
        for root in (tree._plain, tree._dollar)
        for name in root.__slots__
    )


class TreeAgainstList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree: SubscriptionTree[str, int] = SubscriptionTree()
        self.model: dict[tuple[str, str], int] = {}

    @rule(topic_filter=filters, key=st.sampled_from("xyz"), value=st.integers())
    def add(self, topic_filter: str, key: str, value: int) -> None:
        assert self.tree.add(topic_filter, key, value) is ((topic_filter, key) not in self.model)
        self.model[topic_filter, key] = value

    @rule(data=st.data())
    def discard_one_that_is_there(self, data: st.DataObject) -> None:
        if self.model:
            topic_filter, key = data.draw(st.sampled_from(sorted(self.model)))
            assert self.tree.discard(topic_filter, key)
            del self.model[topic_filter, key]

    @rule(topic_filter=filters, key=st.sampled_from("xyz"))
    def discard(self, topic_filter: str, key: str) -> None:
        assert self.tree.discard(topic_filter, key) is (self.model.pop((topic_filter, key), None) is not None)

    @rule(topic=topics)
    def match(self, topic: str) -> None:
        expected = [(key, value) for (text, key), value in self.model.items() if fits(text, topic)]
        assert Counter(self.tree.match(topic)) == Counter(expected)

    @invariant()
    def the_length_is_right(self) -> None:
        assert len(self.tree) == len(self.model)

    def teardown(self) -> None:
        for topic_filter, key in self.model:
            assert self.tree.discard(topic_filter, key)
        assert is_bare(self.tree)


TestTreeAgainstList = TreeAgainstList.TestCase


@given(st.lists(filters), topics)
def test_every_filter_that_matches_is_found_once(texts: list[str], topic: str) -> None:
    tree: SubscriptionTree[str, int] = SubscriptionTree()
    for text in texts:
        tree.add(text, text, 0)
    assert sorted(tree.match(topic)) == sorted((text, 0) for text in set(texts) if fits(text, topic))


def test_a_value_is_replaced() -> None:
    tree: SubscriptionTree[str, int] = SubscriptionTree()
    assert tree.add("a/+", "x", 1)
    assert not tree.add("a/+", "x", 2)
    assert tree.match("a/b") == [("x", 2)]
    assert len(tree) == 1


def test_a_failed_discard_changes_nothing() -> None:
    tree: SubscriptionTree[str, int] = SubscriptionTree()
    tree.add("a/+/#", "x", 1)
    for text in ("a/+", "a/#", "a/+/b/#", "a/+/b", "b/#", "a", "+/+/#"):
        assert not tree.discard(text, "x")
    assert not tree.discard("a/+/#", "y")
    assert tree.match("a/b") == [("x", 1)]
    assert len(tree) == 1


def test_the_deepest_filters_cost_no_stack_and_leave_nothing() -> None:
    tree: SubscriptionTree[str, int] = SubscriptionTree()
    deep = ["+/" * 10_000 + "+", "/" * 32_767, "+/" * 32_767 + "#", "a/" * 10_000 + "+", "/" * 32_766 + "#"]
    for text in deep:
        tree.add(text, "x", 1)
    assert len(tree.match("/" * 10_000)) == 1
    assert len(tree.match("/" * 32_767)) == 3
    assert len(tree.match("a/" * 10_000)) == 2
    for text in deep:
        assert tree.discard(text, "x")
    assert is_bare(tree)


def test_a_search_costs_the_levels_and_not_the_subscriptions() -> None:
    def cost(size: int) -> float:
        tree: SubscriptionTree[int, None] = SubscriptionTree()
        for number in range(size):
            tree.add(f"v1/devices/{number}/+", number, None)
        start = time.perf_counter()
        for _ in range(2_000):
            tree.match("v1/devices/7/telemetry")
        return time.perf_counter() - start

    assert cost(20_000) < 10 * cost(20)


def test_a_search_does_not_multiply_where_names_and_plus_fit_both() -> None:
    tree: SubscriptionTree[str, int] = SubscriptionTree()
    depth = 200
    for number in range(depth):
        tree.add("a/" * number + "+/" * (depth - number) + "a", str(number), 0)
        tree.add("+/" * number + "a/" * (depth - number) + "+", str(number), 0)
    start = time.perf_counter()
    assert len(tree.match("a/" * depth + "a")) == 2 * depth
    assert time.perf_counter() - start < 2
