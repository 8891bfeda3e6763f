"""What must be true of every store, and how it is verified without writing to it.

Each is a query that finds the rows that break it; where SQL cannot say it, a function looks at what the query finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from rpcbroker.core.bulk import ENDED as BULK_ENTRY_ENDED
from rpcbroker.core.bulk import BulkState, EntryState
from rpcbroker.core.calls import FINAL_STATES, CallState, SubmitStrategy
from rpcbroker.core.errors import Reason
from rpcbroker.core.records import MAX_MOMENTS, Mark
from rpcbroker.core.wire_ids import BEGIN_AGAIN
from rpcbroker.store import tables as t
from rpcbroker.store.call_writes import sum_of
from rpcbroker.store.sql import WIRE_IDS

EXAMPLES = 10
"""Ids of rows that break an invariant which are told."""
_IN_PARTS = {"yield_per": 1_000}
LATE = 60_000
"""Milliseconds that a running broker may be behind with ending what is due: it looks once a second."""

_C, _D, _B, _E = t.rpc.c, t.device.c, t.bulk.c, t.bulk_device.c
_WAITING = _C.ended_time.is_(None)
_ENDED = _C.ended_time.is_not(None)
_FINAL = _C.status.in_([state.value for state in FINAL_STATES])
_ONEWAY_DELIVERED = sa.and_(_C.oneway, _C.status == CallState.DELIVERED.value)
_RESERVED = sa.func.coalesce(
    sa.select(t.counter.c.value).where(t.counter.c.name == WIRE_IDS).scalar_subquery(), sa.literal(0)
)
_NOW = sa.bindparam("now", type_=sa.BigInteger)

Row = Any
Holds = Callable[[Row], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """`broken` selects ids, in a column `id`, of what breaks it; of a `holds`, it selects what that is asked of.

    `broken` may use the parameter `now`, epoch ms. `while_running`: it is true while a broker runs, and need not be
    of a store at rest.
    """

    name: str
    sentence: str
    broken: sa.Select[Any] | sa.CompoundSelect[Any]
    holds: Holds | None = None
    while_running: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """How many rows break an invariant, and the ids of the first ones; `broken` is None if it was not looked at."""

    invariant: Invariant
    broken: int | None
    examples: tuple[str, ...] = ()


def _calls(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(_C.id).where(*conditions)


def _parses(shape: Any) -> Holds:
    """The second column is JSON text of this shape."""
    decode = msgspec.json.Decoder(shape).decode

    def holds(row: Row) -> bool:
        try:
            decode(row[1])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        return True

    return holds


def _json(name: str, sentence: str, column: sa.Column[Any], shape: Any = Any) -> Invariant:
    """`column`, where it is not null, is JSON text of this shape."""
    return Invariant(
        name=name, sentence=sentence, broken=sa.select(_C.id, column).where(column.is_not(None)), holds=_parses(shape)
    )


def _words(kind: type[StrEnum]) -> list[str]:
    return [word.value for word in kind]


_Moments = Annotated[list[tuple[int, Mark, str | None]], msgspec.Meta(max_length=MAX_MOMENTS)]
_SHARED = (
    sa.select(_C.device_id, _C.wire_id)
    .where(_WAITING)
    .group_by(_C.device_id, _C.wire_id)
    .having(sa.func.count() > 1)
    .subquery()
)

_OF_CALLS: tuple[Invariant, ...] = (
    Invariant(
        name="words",
        sentence="status, reason and strategy of a call are words that this program knows",
        broken=_calls(
            sa.or_(
                _C.status.not_in(_words(CallState)),
                _C.reason.not_in(_words(Reason)),
                _C.strategy.not_in(_words(SubmitStrategy)),
            )
        ),
    ),
    Invariant(
        name="final states end",
        sentence="a call in a final state has ended",
        broken=_calls(_WAITING, _FINAL),
    ),
    Invariant(
        name="ends are final",
        sentence="a call that has ended is in a final state, or is one-way and delivered",
        broken=_calls(_ENDED, sa.not_(_FINAL), sa.not_(_ONEWAY_DELIVERED)),
    ),
    Invariant(
        name="one-way delivered",
        sentence="a one-way call that was delivered has ended",
        broken=_calls(_WAITING, _ONEWAY_DELIVERED),
    ),
    Invariant(
        name="wire ids differ",
        sentence="no two calls of a device that have not ended share a wire id",
        broken=_calls(_WAITING, _C.device_id == _SHARED.c.device_id, _C.wire_id == _SHARED.c.wire_id),
    ),
    Invariant(
        name="wire ids reserved",
        sentence="no call has a wire id below 1, or above the number that is reserved",
        # beyond BEGIN_AGAIN the count has begun again, and calls of before it may still be there
        broken=_calls(sa.or_(_C.wire_id < 1, sa.and_(_C.wire_id > _RESERVED, _C.wire_id <= BEGIN_AGAIN))),
    ),
    Invariant(
        name="order of times",
        sentence="a call does not end before it was made, nor expire later than it may at the latest",
        broken=_calls(
            sa.or_(_C.created_time < 0, _C.ended_time < _C.created_time, _C.expiration_time > _C.latest_time)
        ),
    ),
    Invariant(
        name="due in time",
        sentence="a call that has not ended is due when it expires at the latest",
        broken=_calls(_WAITING, _C.due_time > _C.latest_time),
    ),
    Invariant(
        name="nothing overdue",
        sentence="no call is overdue by more than a minute while a broker runs",
        broken=_calls(_WAITING, _C.due_time < _NOW - LATE),
        while_running=True,
    ),
    Invariant(
        name="outcome",
        sentence="a call that has not ended has no response, no reason and no device error",
        broken=_calls(_WAITING, sa.or_(_C.response.is_not(None), _C.reason.is_not(None), _C.device_error)),
    ),
    Invariant(
        name="counts",
        sentence="numbers of retries and of moments left out are not negative",
        broken=_calls(sa.or_(_C.max_retries < 0, _C.unacknowledged < 0, _C.omitted < 0)),
    ),
    Invariant(
        name="sum of the method",
        sentence="the sum by which calls of a method are found is that of the method",
        broken=sa.select(_C.id, _C.method, _C.method_sum),
        holds=lambda row: bool(sum_of(row[1]) == row[2]),
    ),
    _json("params", "the params of a call are JSON", _C.params),
    _json("response", "the response of a call, if there is one, is JSON", _C.response),
    _json("additional info", "the additional info of a call, if there is any, is JSON", _C.additional_info),
    _json("time line", f"the time line of a call is a list of at most {MAX_MOMENTS} moments", _C.moments, _Moments),
    Invariant(
        name="device of a call",
        sentence="the device of a call is there, and is its tenant's",
        broken=_calls(
            ~sa.exists(sa.select(_D.id).where(_D.id == _C.device_id, _D.tenant_id == _C.tenant_id).correlate(t.rpc))
        ),
    ),
)

_OF_DEVICES: tuple[Invariant, ...] = (
    Invariant(
        name="customer of a device",
        sentence="the customer of a device, if it has one, is there, and is its tenant's",
        broken=sa.select(_D.id).where(
            _D.customer_id.is_not(None),
            ~sa.exists(
                sa.select(t.customer.c.id)
                .where(t.customer.c.id == _D.customer_id, t.customer.c.tenant_id == _D.tenant_id)
                .correlate(t.device)
            ),
        ),
    ),
    Invariant(
        name="credentials",
        sentence="every device has credentials",
        broken=sa.select(_D.id).where(
            ~sa.exists(sa.select(t.credentials.c.id).where(t.credentials.c.device_id == _D.id).correlate(t.device))
        ),
    ),
)


def _bulks(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Bulks with an entry of this kind."""
    return sa.select(_B.id).where(sa.exists(sa.select(_E.number).where(_E.bulk == _B.sequence, *conditions)))


def _counted(row: Row) -> bool:
    counts = {state.value: 0 for state in EntryState} | row[1]
    return bool(counts == {state.value: row[index] for index, state in enumerate(EntryState, 2)})


_OVER = _E.state.in_([state.value for state in BULK_ENTRY_ENDED])
_COUNTS = [
    sa.select(sa.func.count()).where(_E.bulk == _B.sequence, _E.state == state.value).scalar_subquery()
    for state in EntryState
]

_OF_BULKS: tuple[Invariant, ...] = (
    Invariant(
        name="bulk words",
        sentence="states of a bulk and of its devices are words that this program knows",
        broken=sa.union(
            sa.select(_B.id).where(_B.state.not_in(_words(BulkState))), _bulks(_E.state.not_in(_words(EntryState)))
        ),
    ),
    Invariant(
        name="bulk ends",
        sentence="a bulk that is done has ended, one that runs has not, and none ends before it was made",
        broken=sa.select(_B.id).where(
            sa.or_(
                sa.and_(_B.state == BulkState.DONE.value, _B.ended_time.is_(None)),
                sa.and_(_B.state == BulkState.RUNNING.value, _B.ended_time.is_not(None)),
                _B.ended_time < _B.created_time,
            )
        ),
    ),
    Invariant(
        name="bulk rest",
        sentence="no device of a bulk that has ended waits, or is being called",
        broken=_bulks(_B.ended_time.is_not(None), sa.not_(_OVER)),
    ),
    Invariant(
        name="bulk order",
        sentence="a device of a bulk has a place in the order of ends if its call has ended, and then alone",
        broken=sa.union(
            _bulks(_OVER, _E.ended.is_(None)),
            _bulks(sa.not_(_OVER), _E.ended.is_not(None)),
            sa.select(_B.id)
            .join(t.bulk_device, _E.bulk == _B.sequence)
            .where(_E.ended.is_not(None))
            .group_by(_B.id, _B.sequence, _E.ended)
            .having(sa.func.count() > 1),
        ),
    ),
    Invariant(
        name="bulk counts",
        sentence="a bulk that has ended counts its devices as they are",
        broken=sa.select(_B.id, _B.counts, *_COUNTS).where(_B.ended_time.is_not(None)),
        holds=_counted,
    ),
    Invariant(
        name="bulk responses",
        sentence="the response of a device of a bulk, if there is one, is JSON",
        broken=sa.select(_B.id, _E.response)
        .join(t.bulk_device, _E.bulk == _B.sequence)
        .where(_E.response.is_not(None)),
        holds=_parses(Any),
    ),
)

_CHAIN, _REL = t.rule_chain.c, t.relation.c


def _of_tenant(device: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """Whether a device of a relation is there, and is the relation's tenant's."""
    return sa.exists(sa.select(_D.id).where(_D.id == device, _D.tenant_id == _REL.tenant_id).correlate(t.relation))


_OF_RULES: tuple[Invariant, ...] = (
    Invariant(
        name="one root chain",
        sentence="a tenant has one root rule chain at most",
        broken=sa.select(_CHAIN.tenant_id.label("id"))
        .where(_CHAIN.root)
        .group_by(_CHAIN.tenant_id)
        .having(sa.func.count() > 1),
    ),
    Invariant(
        name="graph of a chain",
        sentence="the graph of a rule chain is a JSON object",
        broken=sa.select(_CHAIN.id, _CHAIN.graph),
        holds=_parses(dict[str, Any]),
    ),
    Invariant(
        name="devices of a relation",
        sentence="the devices of a relation are there, and are its tenant's",
        broken=sa.select(_REL.source.label("id")).where(~sa.and_(_of_tenant(_REL.source), _of_tenant(_REL.target))),
    ),
)

_BOARD = t.board.c


def _of_other_tenant(table: sa.Table, named: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """Whether what a board names in this column is not its tenant's."""
    mine = sa.select(table.c.id).where(table.c.id == named, table.c.tenant_id == _BOARD.tenant_id)
    return sa.and_(named.is_not(None), ~sa.exists(mine.correlate(t.board)))


_OF_BOARDS: tuple[Invariant, ...] = (
    Invariant(
        name="content of a board",
        sentence="the content of a board is a JSON object",
        broken=sa.select(_BOARD.id, _BOARD.content),
        holds=_parses(dict[str, Any]),
    ),
    Invariant(
        name="what a board names",
        sentence="the customer and the device of a board are its tenant's",
        broken=sa.select(_BOARD.id).where(
            sa.or_(_of_other_tenant(t.customer, _BOARD.customer_id), _of_other_tenant(t.device, _BOARD.device_id))
        ),
    ),
)

INVARIANTS: tuple[Invariant, ...] = (*_OF_CALLS, *_OF_DEVICES, *_OF_BULKS, *_OF_RULES, *_OF_BOARDS)


def verify(connection: Connection, *, now: int, running: bool) -> Iterator[Verified]:
    """What is true of all that `connection` sees; it should see one state. `now` is epoch ms.

    Raises SQLAlchemyError.
    """
    for invariant in INVARIANTS:
        if invariant.while_running and not running:
            yield Verified(invariant, None)
            continue
        broken, examples = 0, []
        for row in connection.execute(invariant.broken, {"now": now}, execution_options=_IN_PARTS):
            if invariant.holds is None or not invariant.holds(row):
                broken += 1
                if broken <= EXAMPLES:
                    examples.append(str(row[0]))
        yield Verified(invariant, broken, tuple(examples))
