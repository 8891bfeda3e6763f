"""The handshake: who may upgrade, what the others are told, and what becomes of the HTTP connection."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
from door import GET
from frames import ACCEPT, BINARY, frame, frames, handshake
from hostile import Answer, check_error
from stream import StreamDoor


def answer_to(data: bytes, door: StreamDoor | None = None) -> Answer:
    caller = (door or StreamDoor()).caller()
    caller.wire.protocol.dataReceived(data)
    (answer,) = caller.answers()
    return answer


def test_a_good_handshake_is_answered_with_101_and_nothing_that_was_not_asked_for() -> None:
    answer = answer_to(handshake())
    assert answer.status == 101
    assert answer.headers == {
        "upgrade": ["WebSocket"],
        "connection": ["Upgrade"],
        "sec-websocket-accept": [ACCEPT],
        "sec-websocket-protocol": ["mqtt"],
    }


@pytest.mark.parametrize(
    "other",
    [
        {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"},
        {"Connection": "upgrade", "Upgrade": "h2c, websocket"},
        {"Origin": "https://anywhere.example"},
        {"Origin": "null"},
        {"Origin": "app://no port and no scheme"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits=nonsense, ,;="},
        {"Content_Length": "0"},
        {"Host": "x:no-port"},
        {"Cookie": "a=b"},
    ],
)
def test_a_handshake_may_also_be_like_this(other: dict[str, str]) -> None:
    answer = answer_to(handshake(**other))
    assert answer.status == 101
    assert "sec-websocket-extensions" not in answer.headers


@pytest.mark.parametrize("path", ["/mqtt?a=b", "http://x/mqtt", "/mqtt?#", "/mqtt?%ff"])
def test_a_handshake_may_have_a_query_and_a_whole_url(path: str) -> None:
    assert answer_to(handshake(path)).status == 101


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("mqtt", "mqtt"),
        ("mqttv3.1", "mqttv3.1"),
        ("chat, mqtt", "mqtt"),
        ("mqttv3.1,mqtt", "mqttv3.1"),
        ("mqtt, mqtt", "mqtt"),
        ("chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
    ],
)
def test_the_first_subprotocol_that_is_offered_and_spoken_is_chosen(offered: str, chosen: str) -> None:
    answer = answer_to(handshake(Sec_WebSocket_Protocol=offered))
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, [chosen])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (handshake(Upgrade=None), 426),
        (handshake(Upgrade="h2c"), 426),
        (handshake(Connection=None), 426),
        (handshake(Connection="close"), 426),
        (handshake(first="GET {} HTTP/1.0"), 426),
        (handshake(Sec_WebSocket_Version=None), 426),
        (handshake(Sec_WebSocket_Version="8"), 426),
        (handshake(Sec_WebSocket_Version="nonsense"), 426),
        (handshake(Sec_WebSocket_Version="13, 8"), 426),
        (handshake(Sec_WebSocket_Key=None), 400),
        (handshake(Sec_WebSocket_Key="short=="), 400),
        (handshake(Sec_WebSocket_Key="\xff" * 24), 400),
        (handshake(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (handshake(Sec_WebSocket_Protocol=None), 400),
        (handshake(Sec_WebSocket_Protocol=""), 400),
        (handshake(Sec_WebSocket_Protocol="MQTT"), 400),
        (handshake(Sec_WebSocket_Protocol="wamp.2.json"), 400),
        (handshake(body=b"x", Content_Length="1"), 400),
        (handshake(body=b"1\r\nx\r\n0\r\n\r\n", Transfer_Encoding="chunked"), 400),
        (handshake(first="POST {} HTTP/1.1"), 405),
        (handshake(first="PUT {} HTTP/1.1", Upgrade=None), 405),
        (handshake(Host=None), 400),
    ],
)
def test_a_bad_handshake_is_told_why_in_json(data: bytes, status: int) -> None:
    answer = answer_to(data)
    assert answer.status == status
    check_error(answer)
    if status == 426:
        assert answer.headers["upgrade"] == ["websocket"]
        assert answer.headers["sec-websocket-version"] == ["13"]
        assert "Upgrade" in answer.headers["connection"]


def test_whoever_offers_no_subprotocol_of_ours_is_told_which_there_are() -> None:
    answer = answer_to(handshake(Sec_WebSocket_Protocol="chat"))
    assert json.loads(answer.body)["hint"] == "Offer mqtt or mqttv3.1."


@pytest.mark.parametrize("path", ["/mqtt/", "/now", "/mqt", "/%6dqtt"])
def test_elsewhere_an_upgrade_is_not_heeded(path: str) -> None:
    answer = answer_to(handshake(path))
    assert (answer.status, answer.body) == (200, b"{}")


def test_a_connection_may_be_used_for_http_before_it_becomes_a_websocket() -> None:
    door = StreamDoor()
    caller = door.caller()
    assert caller.send(GET + b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n") == [200]
    door.turn()
    assert caller.statuses() == [426]
    assert caller.send(handshake()) == [101]
    caller.wire.protocol.dataReceived(frame(BINARY, b"inside"))
    assert door.inner[0].read == [b"inside"]


def test_what_comes_right_behind_the_handshake_is_the_websockets() -> None:
    door = StreamDoor()
    caller = door.caller()
    caller.wire.protocol.dataReceived(handshake() + frame(BINARY, b"early")[:4])
    caller.wire.protocol.dataReceived(frame(BINARY, b"early")[4:])
    assert door.inner[0].read == [b"early"]


def test_a_connection_that_became_a_websocket_is_none_of_the_front_doors() -> None:
    door = StreamDoor(max_connections=1, idle_timeout=5, request_timeout=5, write_timeout=5)
    peer = door.peer()
    assert door.site.open_connections == 0
    assert not door.caller().wire.aborted
    assert door.caller().wire.aborted
    door.advance(100)
    assert not peer.wire.closed
    closing = door.site.close_all()
    assert not closing.called, "the two callers are there"
    peer.lose()
    assert peer.inner.lost


def test_answers_that_were_not_read_when_it_became_a_websocket_are_the_websockets_too() -> None:
    door = StreamDoor(write_timeout=5)
    caller = door.caller()
    caller.channel.pauseProducing()
    assert caller.send(handshake()) == [101]
    door.advance(10)
    assert not caller.wire.aborted


def test_of_the_http_connection_nothing_is_kept() -> None:
    door = StreamDoor()
    caller = door.caller()
    gone = weakref.ref(caller.channel)
    caller.send(handshake())
    del caller.channel
    gc.disable()
    try:
        assert gone() is None
    finally:
        gc.enable()


def test_closing_all_http_connections_does_not_wait_for_websockets() -> None:
    door = StreamDoor()
    peer = door.peer()
    assert door.site.close_all().called
    assert not peer.wire.closed


def test_the_rate_of_an_address_counts_handshakes() -> None:
    door = StreamDoor(address_rate=((2, 10.0),))
    assert [answer_to(handshake(), door).status for _ in range(3)] == [101, 101, 429]


def test_while_it_stops_nobody_upgrades() -> None:
    door = StreamDoor()
    door.site.stopping = True
    answer = answer_to(handshake(), door)
    check_error(answer)
    assert (answer.status, answer.headers["connection"]) == (503, ["close"])
    assert not door.inner


def test_a_factory_that_takes_nobody_is_503() -> None:
    door = StreamDoor()
    door.closed_to_all = True
    caller = door.caller()
    assert caller.send(handshake()) == [503]
    assert caller.send(GET) == [200]


def test_it_leaves_nothing_behind() -> None:
    door = StreamDoor()
    peer = door.peer()
    assert door.nothing_is_left()
    assert frames(peer.wire.value()) == []
    peer.lose()
    assert door.nothing_is_left()
    assert not door.site._connections


# -- whose pages may come

OTHERS = ("https://app.example.org", "http://localhost:5173")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("x", None, 101),
        ("x", "https://app.example.org", 101),
        ("x", "HTTPS://APP.example.org", 101),
        ("x", "http://localhost:5173", 101),
        ("x", "http://x", 101),
        ("x", "https://x", 101),
        ("X:80", "http://x", 101),
        ("x:8080", "http://x:8080", 101),
        ("x:443", "https://x", 101),
        ("[::1]:8080", "http://[::1]:8080", 101),
        ("inside:8080", "https://rpc.example.org", 101),
        ("x", "https://evil.example", 403),
        ("x", "https://app.example.org.evil.example", 403),
        ("x", "https://app.example.org:8443", 403),
        ("x", "http://app.example.org", 403),
        ("x", "http://rpc.example.org", 403),
        ("x", "http://x:8080", 403),
        ("x:8080", "http://x", 403),
        ("x", "null", 403),
        ("x", "", 403),
        ("x", "nonsense", 403),
        ("x", "http://", 403),
        ("x", "http://x:port", 403),
        ("x", "http://[x", 403),
        ("x", "http://x\r\nOrigin: https://evil.example", 403),
    ],
)
def test_where_origins_are_given_pages_of_others_are_kept_out(host: str, origin: str | None, status: int) -> None:
    door = StreamDoor(allowed_origins=OTHERS, public_url="https://rpc.example.org/")
    answer = answer_to(handshake(Host=host, Origin=origin), door)
    assert answer.status == status
    if status == 403:
        check_error(answer)
        assert not door.inner


def test_origins_may_change_while_it_runs() -> None:
    door = StreamDoor()
    foreign = handshake(Origin="https://evil.example")
    assert answer_to(foreign, door).status == 101
    door.set(allowed_origins=OTHERS)
    assert answer_to(foreign, door).status == 403
    door.set(allowed_origins=(*OTHERS, "https://evil.example/"))
    assert answer_to(foreign, door).status == 101
