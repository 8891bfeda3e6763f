"""The thread that writes."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest_twisted
import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet import reactor

from rpcbroker.store.writer import Writer


class Work:
    """A write of something large."""

    def __call__(self, connection: Connection) -> None:
        connection.execute(sa.text("SELECT 1"))


@pytest_twisted.ensureDeferred
async def test_what_was_written_is_not_kept_until_something_else_is() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    reactor_: Any = reactor
    writer = Writer(engine, call_from_thread=reactor_.callFromThread, max_queue=10, translate=lambda error: error)
    work, forgotten = Work(), threading.Event()
    weakref.finalize(work, forgotten.set)
    written = writer.write(work)
    del work
    writer.start()
    await written
    assert forgotten.wait(10)
    writer.stop()
    engine.dispose()
