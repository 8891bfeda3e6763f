"""What many hostile callers may do over HTTP at once: dawdle, babble, not read, leave. The real daemon, plain sockets."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import certificates
import pytest
from daemon import Daemon, wait_for
from hostile import Bystander, answers, attacked, check_error, connect, exchange, statuses

GET = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
HONEST = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
POST = b"POST /api/rpc/twoway/x HTTP/1.1\r\nHost: x\r\n"
CROWD = 400


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with attacked(tmp_path_factory.mktemp("broker")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Nothing may take longer than two seconds."""
    times = {f"RPCBROKER_HTTP_{name}_TIMEOUT": "2s" for name in ("REQUEST", "IDLE", "WRITE")}
    with attacked(tmp_path_factory.mktemp("impatient"), **times) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def large(impatient: Daemon) -> bytes:
    """A request whose answer has more than 100 kB."""
    for number in range(200):
        impatient.add_device(f"device {number}", f"TOKEN{number}")
    target = "/api/tenant/devices?pageSize=1000&page=0"
    return f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer {impatient.token}\r\n\r\n".encode()


def held(daemon: Daemon, callers: Iterable[socket.socket] | None = None, port: int = 0) -> int:
    """How many of these, or of all, the broker has not closed yet, as the kernel lists them in proc(5)."""
    port = port or int(daemon.http.rsplit(":", 1)[1])
    peers = range(1, 1 << 16) if callers is None else {caller.getsockname()[1] for caller in callers}
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        mine = int(local.rsplit(":", 1)[1], 16) == port and int(remote.rsplit(":", 1)[1], 16) in peers
        found += mine and inode != "0"  # a socket that nobody has open has no inode
    return found


def memory(daemon: Daemon) -> int:
    """Bytes that are resident."""
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def feed(caller: socket.socket, data: bytes) -> int:
    """Send what is taken without waiting: how much that was, 0 if none or if the broker has hung up."""
    try:
        return caller.send(data)
    except OSError:
        return 0


def read(caller: socket.socket, most: int = 65536) -> bytes:
    """What is there to be read."""
    with contextlib.suppress(OSError):
        return caller.recv(most)
    return b""


def served(daemon: Daemon) -> bool:
    """Whether one more caller is; else its connection is aborted, be it before or after it was told that it has one."""
    with contextlib.suppress(ConnectionResetError):
        return statuses(daemon.http, HONEST) == [200]
    return False


def reset(caller: socket.socket) -> None:
    """Close with a RST."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()


@contextlib.contextmanager
def crowd(daemon: Daemon, number: int = CROWD, first: bytes = b"", **options: int) -> Iterator[list[socket.socket]]:
    """Callers that have sent `first`, or as much of it as is taken, and never block; the broker has them all."""
    with contextlib.ExitStack() as callers:
        found = [callers.enter_context(connect(daemon.http)) for _ in range(number)]
        for caller in found:
            if "rcvbuf" in options:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["rcvbuf"])
            caller.setblocking(False)
            feed(caller, first)
        wait_for(lambda: held(daemon, found) == number, "the crowd")
        yield found


class TestDawdling:
    """118: deadlines of two seconds end it, at the latest two more later; who keeps to the rules is served."""

    def outlast(
        self,
        impatient: Daemon,
        callers: list[socket.socket],
        each: Callable[[socket.socket], object],
        *,
        seconds: float = 8.0,
    ) -> None:
        """Go on until the broker has got rid of all of them."""
        end = time.monotonic() + seconds
        with Bystander(impatient.http):
            while left := held(impatient, callers):
                assert time.monotonic() < end, f"{left} are still there"
                for caller in callers:
                    each(caller)
                time.sleep(0.2)

    def test_slow_requests_of_every_kind_are_408(self, impatient: Daemon) -> None:
        kinds = [
            (b"GET /vers", b"x"),
            (b"GET /version HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n"),
            (b"GET /version HTTP/1.1\r\nHost: x\r\nA: ", b"b"),
            (POST + b"Content-Length: 1000\r\n\r\n", b"x"),
            (POST + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n", b""),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
            (GET + b"GET", b"x"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00"),
        ]
        with crowd(impatient) as callers:
            kind_of = {caller: kinds[number % len(kinds)] for number, caller in enumerate(callers)}
            said = dict.fromkeys(callers, b"")
            for caller in callers:
                feed(caller, kind_of[caller][0])

            def go_on(caller: socket.socket) -> None:
                feed(caller, kind_of[caller][1])
                said[caller] += read(caller)

            self.outlast(impatient, callers, go_on)
        for text in said.values():
            final = answers(text)[-1]
            assert final.status == 408
            assert final.headers["connection"] == ["close"]
            check_error(final)

    def test_the_silent_are_hung_up_on(self, impatient: Daemon) -> None:
        with crowd(impatient) as callers:
            for number, caller in enumerate(callers):
                feed(caller, (b"", b"\r\n", GET)[number % 3])
            self.outlast(impatient, callers, lambda caller: None)
            said = [read(caller) for caller in callers]
        assert {text[:13] for text in said} == {b"", b"HTTP/1.1 200 "}

    @pytest.mark.parametrize("most", [0, 1], ids=["not at all", "a byte at a time"])
    def test_who_does_not_read_is_hung_up_on(self, impatient: Daemon, large: bytes, most: int) -> None:
        with crowd(impatient, 3, first=large * 60, rcvbuf=4096) as callers:  # the kernel alone keeps 4 MB for each
            self.outlast(impatient, callers, lambda caller: most and read(caller, most), seconds=15)
            poll = select.poll()
            poll.register(callers[0], 0)
            assert poll.poll(0)[0][1] & select.POLLHUP

    def test_a_long_call_is_not_cut(self, impatient: Daemon) -> None:
        device_id = impatient.add_device("d", "D")
        status, said = impatient.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "x", "timeout": 5000})
        assert (status, said["reason"]) == (504, "NEVER_CONNECTED")


class TestBabble:
    """What one connection costs, however much is sent over it."""

    def babble(self, daemon: Daemon, callers: list[socket.socket], data: bytes, seconds: float) -> int:
        """Send it over and over, whoever takes it; how much was taken."""
        taken = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = sum(feed(caller, data) for caller in callers)
            taken += now
            if not now:
                time.sleep(0.05)
        return taken

    def test_128_answers_that_nobody_reads_do_not_pile_up(self, broker: Daemon) -> None:
        before = memory(broker)
        with crowd(broker, 100, rcvbuf=4096) as callers, Bystander(broker.http):
            self.babble(broker, callers, GET * 2000, 3)
            assert memory(broker) - before < 60 << 20

    def test_128_requests_behind_a_waiting_one_do_not_pile_up(self, broker: Daemon) -> None:
        device_id = broker.add_device("babbled", "B")
        before = memory(broker)
        with crowd(broker, 100, first=waiting_call(broker, device_id, 8)) as callers, Bystander(broker.http):
            wait_for(lambda: pending(broker, device_id) == 100, "waiting calls")
            self.babble(broker, callers, b"x" * 65536, 3)
            assert memory(broker) - before < 60 << 20

    def test_128_whoever_sends_many_requests_at_once_does_not_keep_others_waiting(self, broker: Daemon) -> None:
        with crowd(broker, 20) as callers, Bystander(broker.http):
            end = time.monotonic() + 3
            answered = 0
            while time.monotonic() < end:
                for caller in callers:
                    feed(caller, GET * 2000)
                    answered += read(caller).count(b"HTTP/1.1 200 ")
            assert answered > 200

    def test_128_callers_who_reset_during_the_reply(self, broker: Daemon) -> None:
        device_id = broker.add_device("reset", "R")
        with Bystander(broker.http):
            for number in range(200):
                caller = connect(broker.http)
                caller.sendall(GET * (number % 50) + waiting_call(broker, device_id) + GET)
                time.sleep(0.001 * (number % 5))
                reset(caller)
            wait_for(lambda: pending(broker, device_id) == 0, "the end of their calls")

    def test_121_large_heads_cost_little(self, broker: Daemon) -> None:
        before = memory(broker)
        head = b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: b\r\n" % number for number in range(90)) + b"B: " + b"b" * 14_000
        with crowd(broker, first=head), Bystander(broker.http):
            assert memory(broker) - before < 60 << 20

    def test_128_keep_alive_for_long(self, broker: Daemon) -> None:
        with connect(broker.http) as caller:
            sizes = []
            for _ in range(4):
                for _ in range(1000):
                    caller.sendall(GET)
                    assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
                sizes.append(memory(broker))
        assert sizes[-1] - sizes[0] < 4 << 20


def waiting_call(daemon: Daemon, device_id: str, seconds: int = 120) -> bytes:
    body = b'{"method":"x","timeout":%d}' % (seconds * 1000)
    head = (
        f"POST /api/rpc/twoway/{device_id} HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer {daemon.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def pending(daemon: Daemon, device_id: str) -> int:
    count: int = daemon.ask("GET", f"/api/device/{device_id}/presence")[1]["pendingCalls"]
    return count


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_127_five_hundred_callers_who_leave_free_their_places_at_once(
    tmp_path: Path, leave: Callable[[socket.socket], None]
) -> None:
    with attacked(tmp_path, RPCBROKER_RPC_MAX_PENDING_PER_DEVICE="500") as daemon:
        device_id = daemon.add_device("d", "D")
        call = waiting_call(daemon, device_id)
        with crowd(daemon, 500, first=call + b"G") as callers, Bystander(daemon.http):
            wait_for(lambda: pending(daemon, device_id) == 500, "500 waiting calls")
            assert statuses(daemon.http, call + HONEST) == [429, 200]
            for caller in callers:
                leave(caller)
            wait_for(lambda: pending(daemon, device_id) == 0, "the end of their calls", seconds=5.0)
            status, said = daemon.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "x", "connectTimeout": 0})
            assert (status, said["reason"]) == (504, "NEVER_CONNECTED")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (b"nonsense\r\n\r\n", [400]),
        (POST + b"Content-Length: 99999999\r\n\r\n", [413]),
        (GET * 3, [200] * 3),
        (GET + b"GET /api/v1/D/rpc HTTP/1.1\r\nHost: x\r\n\r\n", [200, 408]),
    ],
)
def test_who_asks_and_then_sends_no_more_reads_what_it_is_answered(
    broker: Daemon, asked: bytes, expected: list[int]
) -> None:
    if b"/D/" in asked:
        broker.add_device("half closed", "D")
        known = b"POST /api/v1/D/telemetry HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        assert statuses(broker.http, known) == [200]
    for _ in range(20):
        with connect(broker.http) as caller:
            caller.sendall(asked)
            caller.shutdown(socket.SHUT_WR)
            said = b"".join(iter(lambda: caller.recv(1 << 16), b""))
            assert [answer.status for answer in answers(said)] == expected


class TestShares:
    """The limits for one address."""

    def test_requests_beyond_the_rate_are_429_and_go_again_later(self, tmp_path: Path) -> None:
        with attacked(tmp_path, RPCBROKER_HTTP_ADDRESS_RATE="20:1") as daemon:
            time.sleep(1.0)  # the start of the daemon has used some
            found = answers(exchange(daemon.http, GET * 30 + HONEST))
            said = [answer.status for answer in found]
            assert said[:20] == [200] * 20
            assert said.count(429) >= 5
            refused = next(answer for answer in found if answer.status == 429)
            check_error(refused)
            assert refused.headers["retry-after"] == ["1"]
            time.sleep(1.0)
            assert statuses(daemon.http, HONEST) == [200]

    def test_connections_beyond_the_limit_are_closed_at_once_but_not_those_of_a_unix_socket(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "s"
        listen = f"tcp:0:interface=127.0.0.1 unix:{path}:mode=600"
        limits = {"RPCBROKER_HTTP_MAX_CONNECTIONS_PER_ADDRESS": "5", "RPCBROKER_HTTP_ADDRESS_RATE": "1000:1"}
        with attacked(tmp_path, RPCBROKER_HTTP_LISTEN=listen, **limits) as daemon:
            wait_for(lambda: not held(daemon), "no connections")
            with crowd(daemon, 5) as callers, contextlib.ExitStack() as local:
                assert not served(daemon)
                for _ in range(20):
                    caller = local.enter_context(socket.socket(socket.AF_UNIX))
                    caller.connect(str(path))
                    caller.sendall(GET)
                    assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
                callers[0].close()
                wait_for(lambda: served(daemon), "a free place")


class TestTls:
    """The same over TLS, where the end of the answer is told, and the other side's end waited for."""

    @pytest.fixture
    def https(self, tmp_path: Path) -> Iterator[tuple[Daemon, int]]:
        files = certificates.make(tmp_path, serial=1)
        listen = f"tcp:0:interface=127.0.0.1 {files.listener()}"
        times = {f"RPCBROKER_HTTP_{name}_TIMEOUT": "2s" for name in ("REQUEST", "IDLE", "WRITE")}
        with attacked(tmp_path, RPCBROKER_HTTP_LISTEN=listen, **times) as daemon:
            yield daemon, int(daemon.endpoints["https"].rsplit(":", 1)[1])

    @contextlib.contextmanager
    def caller(self, port: int) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, suppress_ragged_eofs=False) as wrapped,
        ):
            yield wrapped

    def said(self, caller: ssl.SSLSocket) -> bytes:
        """Up to the end, which must be told."""
        found = b""
        while chunk := caller.recv(65536):
            found += chunk
        return found

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (POST + b"Content-Length: 99999999\r\n\r\n" + b"x" * 300_000, [413]),
            (b"what?\r\n" + b"x" * 300_000, [400]),
            (b"x" * 300_000, [414]),
            (GET * 20 + HONEST, [200] * 21),
            (GET + b"GET", [200, 408]),
        ],
    )
    def test_refusals_arrive_whole(self, https: tuple[Daemon, int], data: bytes, expected: list[int]) -> None:
        with Bystander(https[0].http), self.caller(https[1]) as caller:
            with contextlib.suppress(OSError):
                caller.sendall(data)
            assert [answer.status for answer in answers(self.said(caller))] == expected

    def test_who_never_shakes_hands_or_never_says_goodbye_is_hung_up_on(self, https: tuple[Daemon, int]) -> None:
        daemon, port = https
        dawdlers = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(20)]
        for caller in dawdlers[10:]:
            caller.sendall(b"\x16\x03\x01\x02\x00\x01")
        with contextlib.ExitStack() as stack:
            for caller in dawdlers:
                stack.enter_context(caller)
            deaf = [stack.enter_context(self.caller(port)) for _ in range(10)]
            for caller in deaf:
                caller.sendall(HONEST)
            mine = [*dawdlers, *deaf]
            wait_for(lambda: held(daemon, mine, port) == len(mine), "the crowd")
            wait_for(lambda: held(daemon, mine, port) == 0, "their end", seconds=8)
