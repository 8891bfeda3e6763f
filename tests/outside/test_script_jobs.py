"""Runs of one script are over in their order, and who asks no more keeps nobody waiting."""

from __future__ import annotations

from fakes import TENANT

from rpcbroker.outside.script_jobs import Job, Known, Lane
from rpcbroker.rules.ports import Language, Script


def jobs_of(known: Known, count: int) -> list[Job]:
    lane, script = Lane(TENANT), Script(Language.JS, "return 1")
    jobs = [Job(lane, script, number=n, values=b"", known=known, seconds=0.0) for n in range(count)]
    known.in_order.extend(jobs)
    return jobs


def test_a_run_that_is_over_waits_for_those_before_it() -> None:
    known = Known(0.0)
    first, second = jobs_of(known, 2)
    told: list[object] = []
    for job in (first, second):
        job.waiting.addCallback(told.append)
    second.result = 2
    second.leave()
    assert told == []
    first.result = 1
    first.leave()
    assert told == [1, 2]
    assert not known.in_order


def test_a_run_that_is_taken_out_unasked_for_lets_those_behind_it_go() -> None:
    known = Known(0.0)
    first, second = jobs_of(known, 2)
    told: list[object] = []
    second.waiting.addCallback(told.append)
    second.result = 2
    second.leave()
    first.waiting.addErrback(lambda _: None)
    first.waiting.cancel()
    first.leave()
    assert told == [2]
