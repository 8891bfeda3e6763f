"""Follows a persistent call until it ends, however long that takes, also over a broker that is started anew."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.task import deferLater

from rpcbroker.cli.answers import OFFLINE, failure
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.telling import CAUSES, advice_for
from rpcbroker.core.calls import FINAL_STATES, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.schema.calls import RpcJSON, TimelineJSON

FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0
"""Seconds between two questions; each wait is half as long again as the one before it."""
PATIENCE = 300.0
"""Seconds without an answer, or with a broker that is too busy for one."""

_NO_REPLY = frozenset({Reason.NO_REPLY, Reason.NO_ACK, Reason.EXPIRED})


async def followed(rest: Rest, rpc_id: UUID, clock: Any) -> RpcJSON:
    """The call, after it has ended. Raises Stop if it was deleted, or the broker is away for too long."""
    wait, away = FIRST_WAIT, 0.0
    while True:
        asked = await _asked(rest, rpc_id)
        if isinstance(asked, Stop):
            if away > PATIENCE:
                raise asked
            away += wait
        elif has_ended(asked):
            return asked
        else:
            away = 0.0
        await deferLater(clock, wait)
        wait = min(wait * 1.5, LONGEST_WAIT)


def has_ended(call: RpcJSON) -> bool:
    """Whether nothing more will happen to it."""
    return call.status in FINAL_STATES or (call.request.oneway and call.status is CallState.DELIVERED)


def failure_of(timeline: TimelineJSON) -> Stop:
    """How a command ends whose call ended without a reply."""
    reason = timeline.reason
    why = CAUSES[reason].why if reason else "nobody knows why"
    return Stop(
        f"The call ended {timeline.state}, for {why}.",
        _exit_code(reason),
        reason=reason,
        hint=advice_for(timeline),
        more=f"rpcbroker explain {timeline.rpc_id}",
    )


def _exit_code(reason: Reason | None) -> ExitCode:
    if reason in OFFLINE:
        return ExitCode.DEVICE_OFFLINE
    return ExitCode.NO_REPLY if reason in _NO_REPLY else ExitCode.ERROR


async def _asked(rest: Rest, rpc_id: UUID) -> RpcJSON | Stop:
    """The call as it is now, or why the broker says nothing now. Raises Stop when it will never say anything."""
    try:
        answer = await rest.try_request("GET", f"/api/rpc/persistent/{rpc_id}")
    except Stop as stop:
        if stop.exit_code != ExitCode.ERROR:
            raise
        return stop
    if answer.status in (429, 503):
        return failure(answer)
    if answer.status == 404:
        raise Stop("The call was deleted.", ExitCode.NOT_FOUND)
    if answer.status != 200:
        raise failure(answer)
    return answer.read_as(RpcJSON)
