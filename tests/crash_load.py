"""Callers of persistent calls that live through kills of the broker, and who watches what becomes of their calls."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from daemon import EMAIL, PASSWORD

ATTEMPT = 5.0
"""Seconds for one request; the broker may be killed while it is under way."""


class Kind(NamedTuple):
    """What callers ask of the devices of a kind. `timeouts` are seconds, of which one is taken by chance."""

    devices: Sequence[str]
    timeouts: Sequence[float]
    share: float


@dataclass
class Accepted:
    """A call that the broker said it keeps. Times are epoch ms."""

    n: int
    rpc_id: str
    device: str
    oneway: bool
    expiration: int
    time: int
    seen: list[tuple[int, str]] = field(default_factory=list)
    """What a watcher was told of its state, and when."""

    def is_final(self, status: str) -> bool:
        return status in ("SUCCESSFUL", "EXPIRED", "FAILED", "DELETED") or (self.oneway and status == "DELIVERED")

    def reported(self) -> tuple[int, str] | None:
        """When its end was told first, and which."""
        return next(((when, status) for when, status in self.seen if self.is_final(status)), None)


class Asking:
    """A connection to whatever broker runs by now."""

    def __init__(self, endpoints: Path) -> None:
        self._endpoints = endpoints
        self._connection: http.client.HTTPConnection | None = None
        self._token = ""

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Raises OSError, HTTPException or ValueError when nobody answers, or not to the end."""
        try:
            if self._connection is None:
                host = json.loads(self._endpoints.read_text())["http"].removeprefix("http://")
                self._connection = http.client.HTTPConnection(host, timeout=ATTEMPT)
                login = {"username": EMAIL, "password": PASSWORD}
                self._token = self._token or self._exchange("POST", "/api/auth/login", login)[1]["token"]
            return self._exchange(method, path, body)
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            raise

    def _exchange(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        assert self._connection is not None
        headers = {"X-Authorization": f"Bearer {self._token}"} if self._token else {}
        self._connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = self._connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Load:
    """Callers and watchers, each in a thread, until `end`."""

    def __init__(self, endpoints: Path, ids: dict[str, str], kinds: Sequence[Kind], seed: int, rate: float) -> None:
        """`ids` are the devices' by their names; `rate` is that of one caller, calls/s."""
        self.accepted: list[Accepted] = []
        self.refused: list[tuple[int, Any]] = []
        self.unknown = 0
        """Calls without a requestUUID whose caller does not know what became of them."""
        self.retried = 0
        self._endpoints, self._ids, self._kinds, self._rate = endpoints, ids, kinds, rate
        self._lock = threading.Lock()
        self._n = 0
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(seed * 100 + number,)) for number in range(4)]
        self._threads += [threading.Thread(target=self._watch, args=(seed * 100 + 50 + n,)) for n in range(2)]
        self._failures: list[BaseException] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No more calls; those that are under way with a requestUUID are asked for until they are answered."""
        self._ending.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not self._failures, self._failures

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            self._failures.append(failure)

    def _call(self, seed: int) -> None:
        self._guarded(lambda: self._call_on(random.Random(seed)))

    def _call_on(self, chance: random.Random) -> None:
        asking = Asking(self._endpoints)
        due = time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due = max(due + chance.expovariate(self._rate), time.monotonic() - 1)
            with self._lock:
                self._n += 1
                n = self._n
            self._one(asking, chance, n)
        asking.close()

    def _one(self, asking: Asking, chance: random.Random, n: int) -> None:
        kind = chance.choices(self._kinds, [kind.share for kind in self._kinds])[0]
        device, oneway = chance.choice(kind.devices), chance.random() < 0.5
        expiration = int((time.time() + chance.choice(kind.timeouts)) * 1000)
        body: dict[str, Any] = {"method": "tell" if oneway else "ask", "params": {"n": n}, "persistent": True}
        body["expirationTime"] = expiration
        if chance.random() < 0.5:
            body["requestUUID"] = str(UUID(int=chance.getrandbits(128), version=4))
        path = f"/api/rpc/{'oneway' if oneway else 'twoway'}/{self._ids[device]}"
        while True:
            try:
                status, answer = asking.ask("POST", path, body)
            except (OSError, http.client.HTTPException, ValueError):
                if "requestUUID" not in body:
                    self.unknown += 1
                    return
                self.retried += 1
                time.sleep(0.05)
                continue
            if status == 200:
                now = time.time_ns() // 10**6
                assert body.get("requestUUID", answer["rpcId"]) == answer["rpcId"]
                self.accepted.append(Accepted(n, answer["rpcId"], device, oneway, expiration, now))
            else:
                self.refused.append((status, answer))
            return

    def _watch(self, seed: int) -> None:
        self._guarded(lambda: self._watch_on(random.Random(seed)))

    def _watch_on(self, chance: random.Random) -> None:
        """Ask for a call by chance, most often one of the last ones, again and again."""
        asking = Asking(self._endpoints)
        while not self._ending.wait(0.02):
            count = len(self.accepted)
            if not count:
                continue
            recent = chance.random() < 0.7
            one = self.accepted[chance.randrange(max(0, count - 100) if recent else 0, count)]
            try:
                status, answer = asking.ask("GET", f"/api/rpc/persistent/{one.rpc_id}")
            except (OSError, http.client.HTTPException, ValueError):
                continue
            assert status == 200, f"the accepted call {one.rpc_id}: {status} {answer}"
            one.seen.append((time.time_ns() // 10**6, answer["status"]))
        asking.close()
