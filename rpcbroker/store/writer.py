"""One thread writes: all that is queued goes into one transaction, and one commit serves them all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.store.failures import cause_of

MAX_BATCH = 1_000
"""Writes in one transaction: enough to make the commit cheap, few enough to keep the first one waiting briefly."""

Work = Callable[[Connection], Any]


class Writer:
    """A queue of writes and the thread that empties it.

    A write is a function of a connection. If one of a batch fails the batch is done again one by
    one, each in a transaction of its own, so that only the failing one fails. When nothing can be written,
    as when the database cannot be reached, all of them fail at once: each would wait as long again.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        call_from_thread: Callable[..., object],
        max_queue: int,
        translate: Callable[[Exception], Exception],
    ) -> None:
        """`translate` turns a database's exception into what the Deferred fails with."""
        self._engine = engine
        self._call_from_thread = call_from_thread
        self._max_queue = max_queue
        self._translate = translate
        self._queue: deque[tuple[Work, Deferred[Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self.commits = 0

    def start(self) -> None:
        self._thread.start()

    @property
    def queued(self) -> int:
        """Writes that wait for their turn."""
        return len(self._queue)

    def write(self, work: Work) -> Deferred[Any]:
        """Queue `work`; fires with what it returned, after the commit."""
        if len(self._queue) >= self._max_queue:
            return fail(not_keeping_up())
        done: Deferred[Any] = Deferred()
        with self._wake:
            if self._stopping:
                return fail(Unavailable("The store is closed", reason=Reason.STORE_UNAVAILABLE))
            self._queue.append((work, done))
            self._wake.notify()
        return done

    def stop(self) -> None:
        """Write what is queued, then end the thread. Blocks: call it from another thread than the reactor's."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    self._wake.wait()
                if not self._queue:
                    return
                batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
            self._call_from_thread(_fire, self._write_batch(batch))
            del batch  # the next one may come in an hour, and all that this one wrote would stay until then

    def _write_batch(self, batch: list[tuple[Work, Deferred[Any]]]) -> list[tuple[Deferred[Any], Any]]:
        try:
            results = self._transaction([work for work, _ in batch])
        except Exception as error:
            if len(batch) == 1 or cause_of(error).of_all:
                failure = Failure(self._translate(error))
                return [(done, failure) for _, done in batch]
            return [outcome for one in batch for outcome in self._write_batch([one])]
        return [(done, result) for (_, done), result in zip(batch, results, strict=True)]

    def _transaction(self, works: list[Work]) -> list[Any]:
        with self._engine.begin() as connection:
            results = [work(connection) for work in works]
        self.commits += 1
        return results


def not_keeping_up() -> Unavailable:
    """What is said to whom there is no room for in the queue."""
    return Unavailable("The store is not keeping up", reason=Reason.STORE_UNAVAILABLE, hint="Try again in a second.")


def _fire(outcomes: list[tuple[Deferred[Any], Any]]) -> None:
    for done, outcome in outcomes:
        done.callback(outcome)  # a Failure makes it an errback
