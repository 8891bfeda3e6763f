"""Calls that their callers gave an id: whoever asks for the same again under it gets the result of the first.

Results are remembered for a while. What was refused has no result: it may be asked for again.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from rpcbroker.core.calls import Call, CallRequest, Reply
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import CallFailed, VersionConflict
from rpcbroker.core.pending import Progress
from rpcbroker.core.settings import RpcSettings

OVERHEAD = 1_000
"""Bytes that remembering a result costs beside the result."""

Start = Callable[[Progress], Deferred[Reply]]


def content_of(device_id: UUID, request: CallRequest | Call) -> bytes:
    """A digest of what makes two calls the same: device, method, params, direction, persistence."""
    digest = blake2b(digest_size=16)
    for part in (device_id.bytes, request.method.encode("utf-8", "surrogatepass"), request.params):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    digest.update(bytes((request.oneway, request.persistent)))
    return digest.digest()


def conflict() -> VersionConflict:
    """The id belongs to another call."""
    return VersionConflict(
        "There is another call with this requestUUID",
        hint="A requestUUID names one call: the same device, method, params, direction and persistence.",
    )


class _Named:
    """One call, everybody who waits for it, and what became of it."""

    __slots__ = ("content", "forgetting", "outcome", "progress", "size", "waiting")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.waiting: list[Deferred[Reply]] = []
        self.progress: list[Progress] = []
        self.outcome: Reply | Failure | None = None
        self.forgetting: Deadline | None = None
        self.size = OVERHEAD


class Once:
    """Calls by the ids that their callers gave them."""

    def __init__(self, deadlines: Deadlines, settings: Callable[[], RpcSettings]) -> None:
        self._deadlines = deadlines
        self._settings = settings
        self._named: dict[tuple[UUID, UUID], _Named] = {}
        self._remembered: OrderedDict[tuple[UUID, UUID], None] = OrderedDict()
        """Those that have ended, the oldest first."""
        self._size = 0
        self.forgotten = 0
        """Results that were forgotten early, for want of memory."""

    def __len__(self) -> int:
        return len(self._named)

    def join(self, key: tuple[UUID, UUID], content: bytes, start: Start, progress: Progress | None) -> Deferred[Reply]:
        """The result of the call of this key (tenant, id): `start` it, or share in it.

        To cancel what is returned is to ask no more; the call goes on. Fails with VersionConflict for another content.
        """
        named = self._named.get(key)
        if named is None:
            named = self._named[key] = _Named(content)
            waiting = self._wait(named, progress)
            every = named.progress
            start(lambda payload: [tell(payload) for tell in tuple(every)]).addBoth(self._ended, key, named)
            return waiting
        if named.content != content:
            return fail(conflict())
        if named.outcome is None:
            return self._wait(named, progress)
        return _again(named.outcome)

    @staticmethod
    def _wait(named: _Named, progress: Progress | None) -> Deferred[Reply]:
        def leave(waiting: Deferred[Reply]) -> None:
            if waiting in named.waiting:  # or it has ended, and others who wait are being told
                named.waiting.remove(waiting)
                if progress is not None:
                    named.progress.remove(progress)

        waiting: Deferred[Reply] = Deferred(leave)
        named.waiting.append(waiting)
        if progress is not None:
            named.progress.append(progress)
        return waiting

    def _ended(self, outcome: Reply | Failure, key: tuple[UUID, UUID], named: _Named) -> None:
        waiting, named.waiting, named.progress = named.waiting, [], []
        if isinstance(outcome, Failure) and not _was_accepted(outcome):
            del self._named[key]
        else:
            named.outcome = outcome
            named.size += len(outcome.payload) if isinstance(outcome, Reply) else 0
            named.forgetting = self._deadlines.after(self._settings().idempotency_window, self._forget, key)
            self._remembered[key] = None
            self._size += named.size
            while self._size > self._settings().idempotency_size and self._remembered:
                self.forgotten += 1
                self._forget(next(iter(self._remembered)))
        for each in waiting:
            if not each.called:  # who was told before may have cancelled it
                _again(outcome).chainDeferred(each)

    def _forget(self, key: tuple[UUID, UUID]) -> None:
        named = self._named.pop(key)
        del self._remembered[key]
        self._size -= named.size
        if named.forgetting is not None:
            named.forgetting.cancel()


def _was_accepted(failure: Failure) -> bool:
    error = failure.value
    return isinstance(error, CallFailed) and not error.refused


def _again(outcome: Reply | Failure) -> Deferred[Reply]:
    """The same for one more; an error of his own, for errors gather traces where they pass."""
    return fail(copy.copy(outcome.value)) if isinstance(outcome, Failure) else succeed(outcome)
