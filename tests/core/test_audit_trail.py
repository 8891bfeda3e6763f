"""The audit log on its way to the store: gathered, bounded, and harmless when the store fails."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import ADMIN, EPOCH_MS, result_of
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from rpcbroker.core import audit
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.model import AuditEntry
from rpcbroker.core.setting import Duration
from rpcbroker.core.settings import AuditSettings


class Log:
    """Takes entries as `answer` says."""

    def __init__(self) -> None:
        self.batches: list[list[AuditEntry]] = []
        self.limits: list[tuple[int, int]] = []
        self.answer: Any = lambda: succeed(None)

    def append(self, entries: Any, *, since: int, max_entries: int) -> Deferred[None]:
        self.batches.append(list(entries))
        self.limits.append((since, max_entries))
        return self.answer()  # type: ignore[no-any-return]


class Trail:
    def __init__(self) -> None:
        self.clock, self.log = Clock(), Log()
        self.trail = AuditTrail(
            self.log,  # type: ignore[arg-type]
            settings=AuditSettings(max_age=Duration(100.0), max_entries=7),
            deadlines=Deadlines(self.clock),
            now_ms=lambda: EPOCH_MS + round(self.clock.seconds() * 1000),
        )

    def note(self, times: int = 1, **more: Any) -> None:
        for _ in range(times):
            self.trail.note(ADMIN, "UPDATED", ("DEVICE", ADMIN.user_id), name="n", **more)


@pytest.fixture
def made() -> Trail:
    return Trail()


def test_what_comes_within_a_second_is_written_at_once(made: Trail) -> None:
    made.note(2)
    made.clock.advance(0.5)
    made.note()
    assert made.log.batches == []
    made.clock.advance(0.6)
    assert [len(batch) for batch in made.log.batches] == [3]
    assert made.log.limits == [(EPOCH_MS + 1_100 - 100_000, 7)]
    made.clock.advance(5)
    assert len(made.log.batches) == 1, "nothing is written for nothing"
    made.note()
    made.clock.advance(1.1)
    assert [len(batch) for batch in made.log.batches] == [3, 1]


def test_many_are_written_before_the_second_is_over(made: Trail) -> None:
    made.note(audit.BATCH + 1)
    assert [len(batch) for batch in made.log.batches] == [audit.BATCH]
    made.clock.advance(1.1)
    assert [len(batch) for batch in made.log.batches] == [audit.BATCH, 1]
    made.note(audit.BATCH - 1)
    assert len(made.log.batches) == 2
    made.clock.advance(1.1)
    assert len(made.log.batches) == 3, "the last one has not waited longer than a second"


def test_an_entry_says_who_and_what(made: Trail) -> None:
    made.note(data={"a": 1}, failure="no")
    result_of(made.trail.flush())
    ((entry,),) = made.log.batches
    assert entry == AuditEntry(
        created_time=EPOCH_MS,
        tenant_id=ADMIN.tenant_id,
        customer_id=None,
        entity_type="DEVICE",
        entity_id=ADMIN.user_id,
        entity_name="n",
        user_id=ADMIN.user_id,
        user_name=ADMIN.email,
        action="UPDATED",
        data={"a": 1},
        failure="no",
    )


def test_a_failure_that_repeats_what_was_sent_cannot_spoil_the_others(made: Trail) -> None:
    """A database that refuses U+0000 would refuse all entries of that second."""
    made.note(failure="\x00" + "x" * 10**6)
    result_of(made.trail.flush())
    failure = made.log.batches[0][0].failure
    assert failure.startswith("\ufffdx")
    assert len(failure) == audit.MAX_FAILURE


def test_a_store_that_does_not_keep_up_costs_entries_and_no_memory(made: Trail, monkeypatch: Any) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING", 5)
    waiting: list[Deferred[None]] = []

    def later() -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[-1]

    made.log.answer = later
    with capturedLogs() as events:
        for _ in range(4):
            made.note(3)
            made.clock.advance(1.1)
    assert [len(batch) for batch in made.log.batches] == [3, 2], "what is being written counts too"
    assert made.trail.lost == 7
    assert [formatEvent(event) for event in events] == ["entries of the audit log are lost: the store does not keep up"]
    for one in waiting:
        one.callback(None)
    made.note(5)
    made.clock.advance(1.1)
    assert len(made.log.batches[-1]) == 5
    assert made.trail.lost == 7


def test_a_store_that_fails_costs_the_entries_and_is_logged(made: Trail) -> None:
    made.log.answer = lambda: fail(Unavailable("no"))
    made.note(3)
    with capturedLogs() as events:
        result_of(made.trail.flush())
    assert made.trail.lost == 3
    assert "the store did not take the audit log: no" in [formatEvent(event) for event in events]
    made.log.answer = lambda: succeed(None)
    made.note(audit.MAX_WAITING)
    result_of(made.trail.flush())
    assert made.trail.lost == 3, "they do not count as waiting any more"
