"""Hot routes: what they are, and that the express lane answers as the long way does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from door import Caller
from fakes import device
from hostile import Answer
from rest import Rest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from rpcbroker.api.hot_routes import HotRoutes
from rpcbroker.core.direct import Outgoing
from rpcbroker.core.settings import HttpSettings
from rpcbroker.web.channel import Channel
from rpcbroker.web.express import PlainRequest
from rpcbroker.web.front_door import FrontDoor

BASE = "/api/plugins/telemetry"
UNKNOWN = "784f394c-42b6-435a-983c-b7beff2784f9"


class House(Rest):
    """The API behind a front door."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.site = FrontDoor(
            self.rest.site.resource(),
            settings=HttpSettings(),
            deadlines=self.broker.deadlines,
            render=self.rest.site.render,
            reactor=self.clock,
            outgoing=Outgoing(self.clock.seconds),
            hot=self.rest.site.hot,
        )

    def caller(self) -> Caller:
        return Caller(self, IPv4Address("TCP", "192.0.2.1", 50_000))

    def say(self, method: str, path: str, body: bytes, *, token: str | None = None, fields: str = "") -> Caller:
        one = self.caller()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer {token or self.token}\r\n{fields}"
        one.channel.dataReceived(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return one


def seen(answer: Answer) -> tuple[int, dict[str, list[str]], Any]:
    """An answer without what each has of its own: times and ids."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    if "x-rpc-id" in headers:
        headers["x-rpc-id"] = ["*"]
    body = re.sub(rb'"timestamp":\d+|[0-9a-f]{8}-[0-9a-f-]{27}', b"*", answer.body)
    return answer.status, headers, body


DEVICE_ID = str(device().id)
CALL = b'{"method":"m","params":{"a":1}}'
REQUESTS = [
    ("POST", f"/api/rpc/twoway/{DEVICE_ID}", CALL, ""),
    ("POST", f"/api/rpc/oneway/{DEVICE_ID}", CALL, ""),
    ("POST", f"/api/plugins/rpc/twoway/{DEVICE_ID}", CALL, "Content-Type: text/plain\r\n"),
    ("POST", f"/api/plugins/rpc/oneway/{DEVICE_ID.upper()}", b'{"method":"m","persistent":true}', ""),
    ("POST", f"/api/rpc/twoway/{UNKNOWN}", CALL, ""),
    ("POST", f"/api/plugins/rpc/twoway/{UNKNOWN}", CALL, "Authorization: Basic x\r\n"),
    ("POST", f"/api/rpc/twoway/{DEVICE_ID}", b"", ""),
    ("POST", f"/api/rpc/twoway/{DEVICE_ID}", b"{", ""),
    ("POST", f"/api/rpc/twoway/{DEVICE_ID}", b"[]", "Accept: */*\r\n"),
    ("POST", f"/api/rpc/twoway/{DEVICE_ID}", b'{"method":"m","expirationTime":1}', ""),
    ("POST", f"/api/rpc/twoway/{DEVICE_ID}?a=b", CALL, ""),
    ("POST", f"/api/rpc/twoway/{DEVICE_ID}/", CALL, ""),
    ("GET", f"/api/rpc/twoway/{DEVICE_ID}", b"", ""),
    ("POST", f"{BASE}/DEVICE/{DEVICE_ID}/timeseries/ANY", b'{"t":1}', ""),
    ("POST", f"{BASE}/DEVICE/{DEVICE_ID}/timeseries/ANY", b'{"t":}', ""),
    ("POST", f"{BASE}/DEVICE/{DEVICE_ID}/timeseries/ANY/86400", b'{"t":1}', ""),
    ("POST", f"{BASE}/DEVICE/{DEVICE_ID}/timeseries/delete", b'{"t":1}', ""),
    ("POST", f"{BASE}/ASSET/{DEVICE_ID}/timeseries/ANY", b'{"t":1}', ""),
    ("POST", f"{BASE}/DEVICE/{UNKNOWN}/attributes/SERVER_SCOPE", b'{"t":1}', ""),
    ("POST", f"{BASE}/DEVICE/{DEVICE_ID}/SHARED_SCOPE", b'{"t":1}', ""),
    ("POST", f"{BASE}/{DEVICE_ID}/CLIENT_SCOPE", b'{"t":1}', ""),
    ("POST", f"{BASE}/{DEVICE_ID}/SHARED_SCOPE", b'{"t":1}', ""),
]


@pytest.mark.parametrize("token", [None, "forged"])
@pytest.mark.parametrize(("method", "path", "body", "fields"), REQUESTS)
def test_both_ways_answer_the_same(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: bytes, fields: str, token: str | None
) -> None:
    found = []
    for lane in (True, False):
        monkeypatch.setattr(Channel, "_on_express_lane", lane)
        house = House()
        link = house.link(reply=b'{"r":2}')
        one = house.say(method, path, body, token=token, fields=fields)
        (answer,) = one.answers()
        found.append((seen(answer), [(call.method, call.params, call.oneway) for call in link.calls]))
    assert found[0] == found[1]


@pytest.mark.parametrize("lane", [True, False])
def test_who_leaves_cancels_the_call(monkeypatch: pytest.MonkeyPatch, lane: bool) -> None:
    monkeypatch.setattr(Channel, "_on_express_lane", lane)
    house = House()
    house.link()
    one = house.say("POST", f"/api/rpc/twoway/{DEVICE_ID}", CALL)
    assert house.session().pending_count == 1
    one.lose()
    assert house.session().pending_count == 0


@pytest.mark.parametrize("lane", [True, False])
def test_who_leaves_before_the_device_is_looked_up_has_cancelled_the_call(
    monkeypatch: pytest.MonkeyPatch, lane: bool
) -> None:
    monkeypatch.setattr(Channel, "_on_express_lane", lane)
    house = House()
    house.store.device = lambda _: Deferred()  # type: ignore[method-assign]
    one = house.say("POST", f"/api/rpc/twoway/{DEVICE_ID}", CALL)
    one.lose()
    assert [entry.failure for entry in house.audit()] == ["CANCELLED: The caller left"]


@pytest.mark.parametrize("lane", [True, False])
def test_who_closes_its_half_counts_as_gone(monkeypatch: pytest.MonkeyPatch, lane: bool) -> None:
    monkeypatch.setattr(Channel, "_on_express_lane", lane)
    house = House()
    house.link()
    one = house.say("POST", f"/api/rpc/twoway/{DEVICE_ID}", CALL)
    one.half_close()
    assert house.session().pending_count == 0


def test_hot_routes_are_found_by_method_and_path() -> None:
    hot = HotRoutes(route for route in Rest().table if route.hot)
    found = hot.find(b"POST", f"/api/rpc/twoway/{DEVICE_ID}".encode())
    assert found is not None
    assert (found[0].operation, found[1]) == ("handleTwoWayDeviceRPCRequestV2", {"device_id": DEVICE_ID})
    found = hot.find(b"POST", f"{BASE}/DEVICE/{DEVICE_ID}/timeseries/ANY".encode())
    assert found is not None
    assert found[1] == {"entity_type": "DEVICE", "entity_id": DEVICE_ID, "any_scope": "ANY"}
    for method, path in (
        ("GET", f"/api/rpc/twoway/{DEVICE_ID}"),
        ("POST", f"/api/rpc/twoway/{DEVICE_ID}/"),
        ("POST", "/api/rpc/twoway/7"),
        ("POST", f"/api/rpc/threeway/{DEVICE_ID}"),
        ("POST", f"{BASE}/DEVICE/{DEVICE_ID}/timeseries/any"),
    ):
        assert hot.find(method.encode(), path.encode()) is None


def test_what_fails_inside_is_told_alike(monkeypatch: pytest.MonkeyPatch, no_dropped_failures: list[str]) -> None:
    for lane in (True, False):
        monkeypatch.setattr(Channel, "_on_express_lane", lane)
        house = House()

        async def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(house.broker, "call", broken)
        (answer,) = house.say("POST", f"/api/rpc/twoway/{DEVICE_ID}", CALL).answers()
        assert answer.status == 500
        assert json.loads(answer.body)["message"] == "Internal error"
    assert len(no_dropped_failures) == 2
    no_dropped_failures.clear()


def test_an_answer_that_cannot_be_written_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, no_dropped_failures: list[str]
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(PlainRequest, "respond", broken)
    house = House()
    house.link(reply=b"1")
    one = house.say("POST", f"/api/rpc/twoway/{DEVICE_ID}", CALL)
    assert one.wire.closed, "and nobody waits for ever"
    assert not one.answers()
    assert any("a bug" in each for each in no_dropped_failures)
    no_dropped_failures.clear()
