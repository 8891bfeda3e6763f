"""HTTP requests of rule nodes, to real servers on loopback.

Over 400 lines: each way in which a server may behave is a server here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certificates
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.ssl import Certificate, DefaultOpenSSLContextFactory, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from web_server import OK, OTHER_TENANT, Peer, Server, Web

from rpcbroker import __version__
from rpcbroker.rules.ports import WebCallFailed, WebCallRefused

SILENT: Callable[[Peer], None] = lambda peer: None  # noqa: E731


@pytest.fixture
def webs() -> Iterator[Callable[..., Web]]:
    made = []

    def make(**more: Any) -> Web:
        made.append(Web(**more))
        return made[-1]

    yield make
    for web in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(web.stop()))


@pytest.fixture
def web(webs: Callable[..., Web]) -> Web:
    return webs()


@pytest_twisted.ensureDeferred
async def test_a_request_goes_out_as_it_is_wanted_and_the_response_comes_back_whole(web: Web) -> None:
    server = Server(
        b"HTTP/1.1 404 Nothing Here\r\nContent-Type: text/plain\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 4\r\n\r\n\xff\x00ab"
    )
    at = web.listen(server)
    response = await web.call(f"http://{at}/a/b?c=d", method="POST", headers={"X-Mine": "me"}, body=b'{"a":1}')
    assert (response.status, response.reason, response.body) == (404, "Nothing Here", b"\xff\x00ab")
    assert response.headers == {"Content-Type": ("text/plain",), "X-A": ("1", "2")}
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a/b?c=d HTTP/1.1"
    assert sorted(lines[1:]) == sorted(
        [f"Host: {at}", f"User-Agent: rpcbroker/{__version__}", "X-Mine: me", "Content-Length: 7"]
    )
    assert body == b'{"a":1}'
    assert web.calls.outcomes == {"answered": 1, "failed": 0, "refused": 0}


@pytest_twisted.ensureDeferred
async def test_a_connection_is_used_again_by_the_same_tenant_only(web: Web) -> None:
    server = Server()
    at = web.listen(server)
    for _ in range(3):
        assert (await web.call(f"http://{at}/")).body == b"ok"
    assert len(server.peers) == 1
    await web.call(f"http://{at}/", tenant=OTHER_TENANT)
    assert len(server.peers) == 2


@pytest_twisted.ensureDeferred
async def test_a_connection_is_no_line_of_the_log(web: Web) -> None:
    at = web.listen(Server())
    with capturedLogs() as events:
        await web.call(f"http://{at}/")
    assert [event for event in events if event["log_namespace"].startswith("twisted.web.client")] == []


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_server_closes_is_not_used_again(web: Web) -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    at = web.listen(server)
    await web.call(f"http://{at}/")
    await web.call(f"http://{at}/", method="POST", body=b"")
    assert len(server.peers) == 2


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_a_response_and_leads_nowhere(web: Web) -> None:
    target = Server()
    there = web.listen(target)
    server = Server(f"HTTP/1.1 302 Found\r\nLocation: http://{there}/\r\nContent-Length: 0\r\n\r\n".encode())
    at = web.listen(server)
    response = await web.call(f"http://{at}/")
    assert (response.status, response.headers["Location"]) == (302, (f"http://{there}/",))
    assert target.peers == []
    assert len(server.requests) == 1


@pytest_twisted.ensureDeferred
async def test_cookies_are_not_kept(web: Web) -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    at = web.listen(server)
    await web.call(f"http://{at}/")
    await web.call(f"http://{at}/")
    assert b"cookie" not in b"".join(server.requests).lower()


@pytest_twisted.ensureDeferred
async def test_proxies_of_the_environment_are_not_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Server()
    monkeypatch.setenv("http_proxy", f"http://{web.listen(proxy)}")
    at = web.listen(Server())
    await web.call(f"http://{at}/")
    assert proxy.peers == []


class TestTooMuch:
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", id="declared"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx", id="declared enormous"),
            pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + 1001 * b"x", id="chunked"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + 1001 * b"x", id="without a length"),
            pytest.param(b"HTTP/1.1 500 No\r\nContent-Length: 5000\r\n\r\n" + 5000 * b"x", id="of an error"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_a_body_that_is_too_large_is_refused_while_it_comes(self, web: Web, answer: bytes) -> None:
        server = Server(answer)
        at = web.listen(server)
        with pytest.raises(WebCallRefused, match="The response has more than 1,000 bytes"):
            await web.call(f"http://{at}/")
        await server.all_lost()

    @pytest_twisted.ensureDeferred
    async def test_a_body_as_large_as_it_may_be_is_taken(self, web: Web) -> None:
        at = web.listen(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + 1000 * b"x"))
        assert (await web.call(f"http://{at}/")).body == 1000 * b"x"

    @pytest.mark.parametrize("line", [b"X-%d: y\r\n", b"X: " + 10_000 * b"y" + b"%d\r\n", b"HTTP/1.1 100 Go\r\n\r\n%d"])
    @pytest_twisted.ensureDeferred
    async def test_a_head_without_an_end_is_broken_off(self, web: Web, line: bytes) -> None:
        sent = []

        def endless(peer: Peer) -> bytes:
            def more() -> None:
                if peer.transport.connected:
                    sent.append(b"".join(line % n if b"%" in line else line for n in range(1000))[:60_000])
                    peer.transport.write(sent[-1])
                    reactor.callLater(0, more)

            reactor.callLater(0, more)
            return b"HTTP/1.1 200 OK\r\n"

        server = Server(endless)
        at = web.listen(server)
        with pytest.raises(WebCallFailed, match=r"whole HTTP response|without a response"):
            await web.call(f"http://{at}/", timeout=20)
        await server.all_lost()

    @pytest_twisted.ensureDeferred
    async def test_the_size_of_a_body_is_not_that_of_a_head(self, web: Web) -> None:
        at = web.listen(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + 3_000_000 * b"x"))
        for _ in range(2):
            assert len((await web.call(f"http://{at}/", max_size=4_000_000)).body) == 3_000_000


class TestTrouble:
    @pytest.mark.parametrize(
        "answer",
        [
            SILENT,
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        ],
        ids=["nothing", "half a head", "half a body", "no last chunk"],
    )
    @pytest_twisted.ensureDeferred
    async def test_what_does_not_come_in_time_is_hung_up_on(self, web: Web, answer: Any) -> None:
        server = Server(answer)
        at = web.listen(server)
        with pytest.raises(WebCallFailed, match=r"There was no response within 0\.2 s"):
            await web.call(f"http://{at}/", timeout=0.2)
        await server.all_lost()
        assert web.calls.running == 0

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (b"", "closed the connection without a response"),
            (b"SSH-2.0-OpenSSH\r\n", "no whole HTTP response"),
            (b"\x00\xff\xfe garbage \r\n\r\n", "no whole HTTP response"),
            (b"HTTP/1.1 abc OK\r\n\r\n", "no whole HTTP response"),
            (b"HTTP/1.1 200 OK\r\n folded\r\n\r\n", "no whole HTTP response"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no whole HTTP response"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "no whole HTTP response"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", "no whole HTTP response"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no whole HTTP response"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "no whole HTTP response"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "no whole HTTP response"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_what_is_no_response_is_said_in_words(self, web: Web, answer: bytes, text: str) -> None:
        def closing(peer: Peer) -> bytes:
            reactor.callLater(0, peer.transport.loseConnection)
            return answer

        at = web.listen(Server(closing))
        with pytest.raises(WebCallFailed, match=f"127.0.0.1.* {text}"):
            await web.call(f"http://{at}/", method="POST", body=b"x")

    @pytest_twisted.ensureDeferred
    async def test_a_port_where_nobody_listens(self, web: Web) -> None:
        at = web.listen(Server())
        await web.ports.pop().stopListening()
        with pytest.raises(WebCallFailed, match=r"127\.0\.0\.1 cannot be reached: Connection was refused"):
            await web.call(f"http://{at}/")

    @pytest_twisted.ensureDeferred
    async def test_a_host_that_is_not_there(self, webs: Callable[..., Web]) -> None:
        web = webs(names={})
        with pytest.raises(WebCallFailed, match=r"There is no host nowhere\.example") as caught:
            await web.call("http://nowhere.example/")
        assert not isinstance(caught.value, WebCallRefused)

    @pytest_twisted.ensureDeferred
    async def test_the_first_address_that_answers_is_taken(self, webs: Callable[..., Web]) -> None:
        web = webs(names={"two.example": ["127.0.0.2", "127.0.0.1"]}, web_hosts=("127.0.0.0/8",))
        at = web.listen(Server())
        assert (await web.call(f"http://two.example:{at.partition(':')[2]}/")).body == b"ok"

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "gopher://127.0.0.1/",
            "//127.0.0.1/",
            "http:///x",
            "http://user:secret@127.0.0.1/",
            "http://api.example@127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:70000/",
            "http://127.0.0.1:x/",
            "http://127.0.0.1/\r\nX: y",
            "http://127.0.0.1/a b",
            "http://[::1/",
            "",
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_what_is_no_url_of_http_is_refused(self, web: Web, url: str) -> None:
        with pytest.raises(WebCallRefused):
            await web.call(url)
        assert web.calls.outcomes["refused"] == 1

    @pytest_twisted.ensureDeferred
    async def test_what_is_no_method_is_refused(self, web: Web) -> None:
        with pytest.raises(WebCallRefused, match="cannot be made"):
            await web.call("http://127.0.0.1/", method="GET / HTTP/1.1\r\nX:")


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "127.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "017700000001",
            "0177.0.0.1",
            "0",
            "0.0.0.0",
            "localhost",
            "LOCALHOST.",
            "[::1]",
            "[::ffff:7f00:1]",
            "[::ffff:127.0.0.1]",
            "[::]",
            "169.254.169.254",
            "[fe80::1]",
            "10.0.0.1",
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_no_spelling_leads_to_what_is_not_public(self, webs: Callable[..., Web], host: str) -> None:
        web = webs(web_hosts=())
        server = Server()
        port = web.listen(server).partition(":")[2]
        with pytest.raises(WebCallFailed, match=r"may not be called|There is no host"):
            await web.call(f"http://{host}:{port}/")
        assert server.peers == []

    @pytest_twisted.ensureDeferred
    async def test_a_name_that_leads_to_what_is_not_allowed_is_refused(self, webs: Callable[..., Web]) -> None:
        web = webs(names={"evil.example": ["127.0.0.1", "::1"]}, web_hosts=())
        with pytest.raises(WebCallRefused, match=r"evil\.example:80 at ::1 may not be called: \[rules\] web_hosts"):
            await web.call("http://evil.example/")

    @pytest_twisted.ensureDeferred
    async def test_what_is_connected_to_is_what_was_looked_at(self, webs: Callable[..., Web]) -> None:
        """A name that leads elsewhere each time it is looked up."""
        web = webs(names={"rebinding.example": ["127.0.0.1"]}, web_hosts=("127.0.0.1",))
        good, bad = Server(), Server()
        at = web.listen(good)
        port = int(at.partition(":")[2])
        web.ports.append(reactor.listenTCP(port, bad, interface="127.0.0.2"))
        url = f"http://rebinding.example:{port}/"
        assert (await web.call(url)).body == b"ok"
        assert web.looked_up == ["rebinding.example"]
        web.names = {"rebinding.example": ["127.0.0.2"]}
        assert (await web.call(url)).body == b"ok"  # by the connection that there is
        assert web.looked_up == ["rebinding.example"]
        with pytest.raises(WebCallRefused, match=r"at 127\.0\.0\.2 may not"):
            await web.call(url, tenant=OTHER_TENANT)
        assert bad.peers == []

    @pytest_twisted.ensureDeferred
    async def test_of_several_addresses_only_those_are_tried_that_are_allowed(self, webs: Callable[..., Web]) -> None:
        web = webs(names={"two.example": ["127.0.0.2", "127.0.0.1"]})
        good, bad = Server(), Server()
        port = int(web.listen(good).partition(":")[2])
        web.ports.append(reactor.listenTCP(port, bad, interface="127.0.0.2"))
        await web.call(f"http://two.example:{port}/")
        assert (len(good.peers), len(bad.peers)) == (1, 0)

    @pytest_twisted.ensureDeferred
    async def test_a_host_that_is_listed_by_name_may_be_at_home(self, webs: Callable[..., Web]) -> None:
        web = webs(names={"box.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}, web_hosts=("box.example",))
        port = web.listen(Server()).partition(":")[2]
        assert (await web.call(f"http://BOX.example:{port}/")).body == b"ok"
        with pytest.raises(WebCallRefused, match=r"other\.example:\d+ may not be called"):
            await web.call(f"http://other.example:{port}/")
        assert web.looked_up == ["box.example"]  # who cannot be allowed is not even looked up

    @pytest_twisted.ensureDeferred
    async def test_a_list_that_changes_holds_at_once_also_for_open_connections(self, web: Web) -> None:
        server = Server()
        at = web.listen(server)
        await web.call(f"http://{at}/")
        web.rules = web.rules.__class__(web_hosts=())
        with pytest.raises(WebCallRefused):
            await web.call(f"http://{at}/")
        await server.all_lost()
        web.rules = web.rules.__class__(web_hosts=(at,))
        assert (await web.call(f"http://{at}/")).body == b"ok"

    @pytest_twisted.ensureDeferred
    async def test_names_are_looked_up_as_the_system_does(self, webs: Callable[..., Web]) -> None:
        web = webs(web_hosts=("127.0.0.0/8", "::1"))
        port = web.listen(Server()).partition(":")[2]
        assert (await web.call(f"http://localhost:{port}/")).body == b"ok"
        with pytest.raises(WebCallFailed, match="There is no host"):
            await web.call(f"http://nothing.invalid:{port}/")

    @pytest_twisted.ensureDeferred
    async def test_lookups_that_hang_hold_up_no_other_tenant(self, webs: Callable[..., Web]) -> None:
        web = webs(names={})
        at = web.listen(Server())
        hanging: list[Deferred[list[str]]] = []
        look_up = web.calls._look_up

        def hang(host: str) -> Deferred[list[str]]:
            if host != "hanging.example":
                assert look_up is not None
                return look_up(host)
            hanging.append(Deferred())
            return hanging[-1]

        web.calls._look_up = hang
        web.names = {"good.example": ["127.0.0.1"]}
        waiting = [web.call("http://hanging.example/", timeout=0.3) for _ in range(10)]
        assert len(hanging) == 2
        url = f"http://good.example:{at.partition(':')[2]}/"
        assert (await web.call(url, tenant=OTHER_TENANT)).body == b"ok"
        for each in waiting:
            with pytest.raises(WebCallFailed, match="no response within"):
                await each
        for each in list(hanging):
            each.callback([])
        assert len(hanging) == 2  # for those who had left, nothing was looked up
        assert (await web.call(url)).body == b"ok"


class TestTls:
    @pytest_twisted.ensureDeferred
    async def test_a_certificate_that_nobody_knows_is_not_believed(self, web: Web, tmp_path: Path) -> None:
        at = web.listen(_with_tls(Server(), tmp_path))
        with pytest.raises(WebCallFailed, match=r"TLS with 127\.0\.0\.1 failed: certificate verify failed"):
            await web.call(f"https://{at}/")

    @pytest_twisted.ensureDeferred
    async def test_one_that_is_known_is_and_its_connection_is_used_again(
        self, webs: Callable[..., Web], tmp_path: Path
    ) -> None:
        server = Server()
        factory = _with_tls(server, tmp_path)
        web = webs(trust_root=_trusted(tmp_path))
        at = web.listen(factory)
        for _ in range(2):
            assert (await web.call(f"https://{at}/")).body == b"ok"
        assert len(server.peers) == 1

    @pytest_twisted.ensureDeferred
    async def test_one_of_another_host_is_not(self, webs: Callable[..., Web], tmp_path: Path) -> None:
        factory = _with_tls(Server(), tmp_path)
        web = webs(names={"other.example": ["127.0.0.1"]}, trust_root=_trusted(tmp_path))
        port = web.listen(factory).partition(":")[2]
        with pytest.raises(WebCallFailed, match=r"TLS with other\.example failed: its certificate is another host's"):
            await web.call(f"https://other.example:{port}/")

    @pytest_twisted.ensureDeferred
    async def test_a_server_that_does_not_speak_tls(self, web: Web) -> None:
        def closing(peer: Peer) -> bytes:
            return b""

        server = Server(closing)
        server.buildProtocol = lambda _: _Hello()  # type: ignore[method-assign,assignment]
        at = web.listen(server)
        with pytest.raises(WebCallFailed, match=r"TLS with 127\.0\.0\.1 failed"):
            await web.call(f"https://{at}/")

    @pytest_twisted.ensureDeferred
    async def test_a_body_that_is_too_large_is_hung_up_on(self, webs: Callable[..., Web], tmp_path: Path) -> None:
        server = Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + 1001 * b"x")
        factory = _with_tls(server, tmp_path)
        web = webs(trust_root=_trusted(tmp_path))
        at = web.listen(factory)
        with pytest.raises(WebCallRefused):
            await web.call(f"https://{at}/")
        await server.all_lost()


class TestTurns:
    @pytest_twisted.ensureDeferred
    async def test_of_one_tenant_so_many_are_on_their_way_and_the_others_wait_in_order(
        self, webs: Callable[..., Web]
    ) -> None:
        web = webs(max_web_calls=2)
        server = Server(SILENT)
        at = web.listen(server)
        waiting = [web.call(f"http://{at}/{n}") for n in range(6)]
        assert (web.calls.running, web.calls.waiting) == (2, 4)
        other = web.call(f"http://{at}/other", tenant=OTHER_TENANT)
        while len(server.requests) < 3:
            await deferLater(reactor, 0)
        server.answer = lambda _: OK
        for peer in list(server.peers):
            peer.transport.write(OK)
        answers = await gatherResults(waiting)
        assert [each.body for each in answers] == [b"ok"] * 6
        assert (await other).body == b"ok"
        paths = [request.split()[1] for request in server.requests]
        mine = [path for path in paths if path != b"/other"]
        assert sorted(mine[:2]) == [b"/0", b"/1"]
        assert sorted(mine[2:4]) == [b"/2", b"/3"]
        assert (web.calls.running, web.calls.waiting) == (0, 0)

    @pytest_twisted.ensureDeferred
    async def test_not_more_wait_than_ten_times_as_many(self, webs: Callable[..., Web]) -> None:
        web = webs(max_web_calls=1)
        at = web.listen(Server(SILENT))
        waiting = [web.call(f"http://{at}/", timeout=0.2) for _ in range(11)]
        with pytest.raises(WebCallFailed, match="10 calls of the tenant to other servers wait already"):
            await web.call(f"http://{at}/")
        for each in waiting:
            with pytest.raises(WebCallFailed, match="no response within"):
                await each
        assert (web.calls.running, web.calls.waiting) == (0, 0)

    @pytest_twisted.ensureDeferred
    async def test_many_at_a_time(self, web: Web) -> None:
        server = Server()
        at = web.listen(server)
        answers = await gatherResults([web.call(f"http://{at}/{n}") for n in range(500)])
        assert len(answers) == 500
        await web.call(f"http://{at}/")
        while server.connected > 8:
            await deferLater(reactor, 0)

    @pytest_twisted.ensureDeferred
    async def test_connections_to_many_hosts_are_not_all_kept(self, webs: Callable[..., Web]) -> None:
        names = {f"{n}.example": ["127.0.0.1"] for n in range(100)}
        web = webs(names=names)
        server = Server()
        port = web.listen(server).partition(":")[2]
        for name in names:
            await web.call(f"http://{name}:{port}/")
        while server.connected > 33:
            await deferLater(reactor, 0)

    @pytest_twisted.ensureDeferred
    async def test_at_the_stop_all_calls_end_and_nothing_stays_open(self, webs: Callable[..., Web]) -> None:
        web = webs(max_web_calls=2)
        server = Server()
        at = web.listen(server)
        await web.call(f"http://{at}/")
        server.answer = SILENT
        waiting = [web.call(f"http://{at}/") for _ in range(4)]
        while len(server.requests) < 3:
            await deferLater(reactor, 0)
        await web.calls.stop()
        for each in waiting:
            with pytest.raises(WebCallRefused, match="The broker stops"):
                await each
        await server.all_lost()
        with pytest.raises(WebCallRefused, match="The broker stops"):
            await web.call(f"http://{at}/")


class _Hello(Peer):
    def connectionMade(self) -> None:
        self.transport.write(b"220 hello\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        pass


def _with_tls(server: Server, directory: Path) -> TLSMemoryBIOFactory:
    made = certificates.make(directory, serial=7)
    factory = TLSMemoryBIOFactory(DefaultOpenSSLContextFactory(made.key, made.certificate), False, server)
    factory.noisy = False
    return factory


def _trusted(directory: Path) -> Any:
    return trustRootFromCertificates([Certificate.loadPEM((directory / "certificate.pem").read_bytes())])
