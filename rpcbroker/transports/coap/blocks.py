"""Bodies that are between their first block and their last, in a bounded memory (RFC 7959)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.transports.coap.exchange import Response
from rpcbroker.transports.coap.peers import CoapPeer
from rpcbroker.wire.coap.blockwise import Assembly

PER_PEER = 4
"""Bodies of one kind that one peer may have on the shelf; for one more the oldest goes."""

_OVERHEAD = 600
"""Bytes that one of them takes beside its content."""


class Kept:
    """A body on the shelf. `done` is called once: whether its last block was fetched before it left."""

    __slots__ = ("content", "deadline", "done", "key", "peer", "seconds", "size")

    def __init__(
        self,
        peer: CoapPeer,
        key: Hashable,
        content: Assembly | Response,
        seconds: float,
        done: Callable[[bool], None] | None,
    ) -> None:
        self.peer = peer
        self.key = key
        self.content = content
        self.seconds = seconds
        self.done = done
        self.size = 0
        self.deadline: Deadline | None = None

    def leave(self, _: None) -> None:
        """It left the shelf, unfetched."""
        self.finish(False)

    def finish(self, fetched: bool) -> None:
        """Tell what became of it, unless that is told."""
        done, self.done = self.done, None
        if done is not None:
            done(fetched)


class Shelf:
    """All of them. Each stays for its `seconds` after the last touch; of too many the longest untouched go first, those
    of strangers before all others."""

    def __init__(self, limit: int, deadlines: Deadlines) -> None:
        self.limit = limit
        """Bytes of all together. May be changed at any time."""
        self.size = 0
        self._deadlines = deadlines
        self._all: OrderedDict[Kept, None] = OrderedDict()
        self._strangers: OrderedDict[Kept, None] = OrderedDict()
        """Some of these."""
        self._of: dict[CoapPeer, dict[Hashable, Kept]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def get(self, peer: CoapPeer, key: Hashable) -> Kept | None:
        """What is there under that key."""
        kept = self._of.get(peer)
        return None if kept is None else kept.get(key)

    def put(
        self,
        peer: CoapPeer,
        key: Hashable,
        content: Assembly | Response,
        seconds: float,
        done: Callable[[bool], None] | None = None,
        *,
        known: bool = True,
    ) -> Kept:
        """Put it there, in place of what there was under that key."""
        older = self.get(peer, key)
        if older is not None:
            self.take(older)
        kinds = [kept for kept in self._of.get(peer, {}).values() if type(kept.content) is type(content)]
        if len(kinds) >= PER_PEER:
            self.take(kinds[0])
        kept = Kept(peer, key, content, seconds, done)
        self._of.setdefault(peer, {})[key] = kept
        self._all[kept] = None
        if not known:
            self._strangers[kept] = None
        self.touch(kept)
        return kept

    def touch(self, kept: Kept) -> None:
        """It is in use, and may have grown. Harmless if it is gone."""
        if kept not in self._all:
            return
        content = kept.content
        size = _OVERHEAD + len(content if isinstance(content, Assembly) else content.payload)
        self.size += size - kept.size
        kept.size = size
        if kept.deadline is not None:
            kept.deadline.cancel()
        kept.deadline = self._deadlines.after(kept.seconds, self.take, kept)
        self._all.move_to_end(kept)
        if kept in self._strangers:
            self._strangers.move_to_end(kept)
        while self.size > self.limit and len(self._all) > 1:
            self.take(next(iter(self._strangers or self._all)))

    def take(self, kept: Kept) -> None:
        """Take it off, wherever it is. Harmless if it is gone."""
        if self._all.pop(kept, kept) is kept:
            return
        self._strangers.pop(kept, None)
        if kept.deadline is not None:
            kept.deadline.cancel()
            kept.deadline = None  # each knows the other
        self.size -= kept.size
        kept.size = 0
        of_peer = self._of[kept.peer]
        del of_peer[kept.key]
        if not of_peer:
            del self._of[kept.peer]
        if kept.done is not None:  # later, for whoever is told may put something there, and it is being done already
            self._deadlines.after(0, kept.leave, None)

    def move(self, kept: Kept, peer: CoapPeer) -> Kept:
        """Its device has another address now: what it is there; the same if it is gone."""
        if kept not in self._all:
            return kept
        done, kept.done = kept.done, None
        self.take(kept)
        return self.put(peer, kept.key, kept.content, kept.seconds, done)

    def lost(self, peer: CoapPeer) -> None:
        """The peer is gone, and with it all that is its own."""
        for kept in tuple(self._of.get(peer, {}).values()):
            self.take(kept)
