"""Devices of a file made so in a broker, several at a time; what came of each line, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple, Protocol

from msgspec import UNSET

from rpcbroker.cli import find
from rpcbroker.cli.answers import Answer, failure, strange
from rpcbroker.cli.at_once import in_order
from rpcbroker.cli.fleet.entries import Line
from rpcbroker.cli.rest import Rest
from rpcbroker.schema.devices import PutDeviceBody, PutResult

FAILED = "failed"
_RESULTS = frozenset(each.value for each in PutResult)


class Outcome(NamedTuple):
    """What came of a line: one of PutResult's words, or `failed` and why."""

    line: Line
    result: str
    why: str = ""


class Way(Protocol):
    """Makes a device so, or finds out what that would do. Raises Stop when going on makes no sense."""

    async def bring(self, line: Line) -> Outcome: ...


def outcomes(lines: Iterable[Line], way: Way) -> AsyncIterator[Outcome]:
    """Bring line after line, several at a time. Raises what `way` raises, and what reading the lines does."""

    async def each() -> AsyncIterator[Line]:
        for line in lines:
            yield line

    async def bring(line: Line) -> Outcome:
        return await way.bring(line) if line.entry is not None else Outcome(line, FAILED, line.error)

    return in_order(each(), bring)


class Put:
    """Makes it so."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def bring(self, line: Line) -> Outcome:
        """See Way."""
        assert line.entry is not None
        body = await whole_body(self._rest, line)
        answer = await self._rest.try_request("PUT", "/api/tenant/device", body, deviceName=line.entry.name)
        if answer.status not in (200, 201):
            return Outcome(line, FAILED, refusal(answer))
        result = answer.headers.get("x-result", "")
        if result not in _RESULTS:
            raise strange("The server's answer does not say what it did")
        return Outcome(line, result)


async def whole_body(rest: Rest, line: Line) -> PutDeviceBody:
    """What is to be sent: additionalInfo is replaced as a whole, so what is not to be changed must be in it."""
    assert line.entry is not None
    body = line.entry.body()
    if line.info and body.additional_info is UNSET:
        there = await find.device_by_name(rest, line.entry.name)
        old = there.additional_info if there is not None else None
        body.additional_info = {**(old if isinstance(old, dict) else {}), **line.info}
    return body


def refusal(answer: Answer) -> str:
    """Why a line failed. Raises Stop when every other line would fail as well."""
    stop = failure(answer)
    if answer.status in (401, 403):
        raise stop
    return f"{stop.message} {stop.hint}" if stop.hint else stop.message
