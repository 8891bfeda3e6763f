"""Twisted's epoll reactor without what it does for each event that nobody here asks for.

`log.callWithLogger` makes a context for legacy log events around each read, so that they say in whose name they are
written. That costs more than the read itself. Here it is made only when something failed.

It relies on private attributes of `EPollReactor`. If they are not as expected the reactor stays as it was, only slower.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger
from twisted.python import log

from rpcbroker.core.direct import Outgoing

MOST_EVENTS = 256
"""Events that are served before timers, and what threads have finished, have their turn. Of what is ready, those that
were served go to the end of the kernel's list: with more than this nobody starves (epoll_wait(2), Notes)."""

_log = Logger()


def lighten(reactor: Any, outgoing: Outgoing) -> bool:
    """Make `reactor` serve what can be read with as little as can be around it, from its next turn on.

    What `outgoing` is given meanwhile goes out at the end of each turn.
    What becomes of selectables, of their failures and of what is logged of those stays as it was; only what handlers
    write with the legacy `log.msg` does not name the connection any more. False: the reactor is not known, or not as it
    is expected to be, and nothing was changed.
    """
    if not _is_as_expected(reactor):
        _log.debug("the reactor stays as it is: {reactor}", reactor=reactor)
        return False
    reactor.doPoll = reactor.doIteration = _poll_of(reactor, outgoing)
    return True


def _is_as_expected(reactor: Any) -> bool:
    return (
        type(reactor) is EPollReactor
        and isinstance(getattr(reactor, "_poller", None), select.epoll)
        and isinstance(getattr(reactor, "_selectables", None), dict)
        and callable(getattr(reactor, "_doReadOrWrite", None))
        and callable(getattr(reactor, "_disconnectSelectable", None))
    )


def _poll_of(reactor: EPollReactor, outgoing: Outgoing) -> Any:
    """In the place of its `doPoll`."""
    poll, selectables = reactor._poller.poll, reactor._selectables
    serve, disconnect = reactor._doReadOrWrite, reactor._disconnectSelectable
    readable = select.EPOLLIN

    def failed(selectable: Any, error: BaseException) -> None:
        log.err()
        disconnect(selectable, error, False)

    def do_poll(timeout: float | None) -> None:
        """Wait for events, `timeout` seconds or for ever, and serve them."""
        events = poll(timeout, MOST_EVENTS)
        outgoing.gather()
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is None:  # one before it has closed it
                continue
            try:
                if event != readable or selectable.fileno() == -1:  # not often, so Twisted does it
                    log.callWithLogger(selectable, serve, selectable, fd, event)
                    continue
                why = selectable.doRead()
            except BaseException as error:  # any: it must not touch others
                log.callWithLogger(selectable, failed, selectable, error)
                continue
            if why:
                log.callWithLogger(selectable, disconnect, selectable, why, True)
        outgoing.release()

    return do_poll
