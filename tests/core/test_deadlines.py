"""Many deadlines on one timer."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rpcbroker.core.deadlines import SLOTS_PER_SECOND, Deadline, Deadlines


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30))
def test_never_early_and_at_most_one_slot_late(plan: list[tuple[float, bool]]) -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    fired: dict[int, float] = {}
    made = [
        deadlines.after(seconds, lambda number: fired.setdefault(number, clock.seconds()), number)
        for number, (seconds, _) in enumerate(plan)
    ]
    for deadline, (_, cancelled) in zip(made, plan, strict=True):
        if cancelled:
            deadline.cancel()
    assert len(clock.getDelayedCalls()) <= 1
    clock.pump([1 / 256] * 256 + [0.1] * 1000)
    assert set(fired) == {number for number, (_, cancelled) in enumerate(plan) if not cancelled}
    for number, when in fired.items():
        assert plan[number][0] <= when + 1e-9
        if when < 1:
            assert when <= plan[number][0] + 1 / SLOTS_PER_SECOND + 1 / 256


def test_a_failing_action_disturbs_no_other(no_dropped_failures: list[str]) -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    fired: list[int] = []
    deadlines.after(1, lambda _: 1 / 0, None)
    deadlines.after(1, fired.append, 1)
    clock.advance(1.1)
    assert fired == [1]
    assert len(no_dropped_failures) == 1
    no_dropped_failures.clear()


def test_an_action_may_cancel_its_neighbour() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    fired: list[int] = []
    made = [deadlines.after(1, lambda i: (fired.append(i), made[1 - i].cancel()), i) for i in range(2)]
    clock.advance(1.1)
    assert len(fired) == 1


def test_those_of_one_slot_fire_in_the_order_in_which_they_were_added() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    fired: list[int] = []
    for number in range(5):
        deadlines.after(1, fired.append, number)
    clock.advance(1.1)
    assert fired == [0, 1, 2, 3, 4]


def test_stop_forgets_everything() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    deadlines.after(1, pytest.fail, "fired")
    deadlines.stop()
    clock.advance(2)
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("fires", [False, True])
def test_a_deadline_that_is_over_keeps_nobody_alive(fires: bool) -> None:
    class Owner:
        deadline: Deadline

        def act(self, _: object) -> None:
            """Nothing."""

    clock = Clock()
    deadlines = Deadlines(clock)
    owner = Owner()
    owner.deadline = deadlines.after(1.0, owner.act, owner)
    if fires:
        clock.advance(2.0)
    else:
        owner.deadline.cancel()
    gone = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()
