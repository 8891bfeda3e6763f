"""What holds for every route: headers, bodies, queries, and callers who leave."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from rest import Rest, leave
from twisted.internet.defer import Deferred

from rpcbroker.api.routes import Route


@pytest.fixture
def rest() -> Rest:
    return Rest()


class TestHeaders:
    @pytest.mark.parametrize(
        "value", [b"Bearer \xff\xfe", b"ApiKey \xff", b"\xff", b"Bearer a.\xed\xa0\x80.c", b"ApiKey " + b"x" * 8000]
    )
    @pytest_twisted.ensureDeferred
    async def test_any_bytes_in_authorization_are_401(self, rest: Rest, value: bytes) -> None:
        for name in ("X-Authorization", "Authorization"):
            status, answer, _ = await rest.ask("GET", "/api/auth/user", token=None, headers={name: value})
            assert (status, answer["errorCode"]) == (401, 10)

    @pytest_twisted.ensureDeferred
    async def test_any_bytes_in_other_headers_are_400_or_415(self, rest: Rest) -> None:
        status, answer, _ = await rest.ask("POST", "/api/device", {"name": "n"}, headers={"Content-Type": b"\xff"})
        assert (status, answer["errorCode"]) == (415, 31)

    @pytest_twisted.ensureDeferred
    async def test_no_cache_keeps_an_answer(self, rest: Rest) -> None:
        for path, token in (("/api/auth/user", ""), ("/api/auth/user", None), ("/nothing", ""), ("/docs", None)):
            headers = (await rest.ask("GET", path, token=token))[2]
            assert headers.getRawHeaders("cache-control") == ["no-store"]

    @pytest_twisted.ensureDeferred
    async def test_what_was_asked_is_in_no_header(self, rest: Rest) -> None:
        evil = "x%0d%0aSet-Cookie:%20a=b"
        paths = (f"/api/device/{evil}", f"/api/tenant/device?deviceName={evil}", f"/{evil}", f"/api/device?a={evil}")
        for path in paths:
            _, _, headers = await rest.ask("GET", path, headers={"Origin": "https://evil.example"})
            assert not headers.hasHeader("set-cookie")
            assert not [name for name, _ in headers.getAllRawHeaders() if name.lower().startswith(b"access-control")]
            assert "Set-Cookie" not in str(list(headers.getAllRawHeaders()))


NO_OBJECTS = [b"null", b"[]", b'"x"', b"5"]
BAD_JSON = [
    *NO_OBJECTS,
    b"",
    b"{",
    b"{}x",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b'{"additionalInfo":NaN}',
    b'{"additionalInfo":Infinity}',
    b'{"additionalInfo":1e400}',
    b'{"additionalInfo":"\\ud800"}',
    b'{"additionalInfo":"\xed\xa0\x80"}',
    b'{"additionalInfo":"\x00"}',
    b"[" * 100_000,
    b'{"additionalInfo":' * 5_000,
    b'{"additionalInfo":' + b"9" * 5_000 + b"}",
]
MEMBERS = {"createProvisionKey": b"provisionDeviceKey", "claimDevice": b"secretKey"}
"""A member that is read, of bodies that need none: what is not read is passed over, whatever it is."""


def with_bodies(rest: Rest) -> list[Route]:
    return [route for route in rest.table if route.body is not None]


class TestBodies:
    @pytest.mark.parametrize("body", BAD_JSON, ids=lambda body: repr(body[:16]))
    @pytest_twisted.ensureDeferred
    async def test_what_is_no_json_object_is_refused_everywhere_and_changes_nothing(
        self, rest: Rest, body: bytes
    ) -> None:
        takes_any = Any if body in NO_OBJECTS else None
        routes = [(route, rest.token_for(route)) for route in with_bodies(rest) if route.body is not takes_any]
        before = rest.dump()
        for route, token in routes:
            path = route.path.replace("<device_id>", str(rest.device.id)) + "?deviceName=n"
            member = MEMBERS.get(route.operation, b"additionalInfo")
            status, answer, _ = await rest.ask(route.method, path, body.replace(b"additionalInfo", member), token=token)
            assert status in {400, 401}, (route.operation, answer)
            assert (status == 401) == (route.operation == "login"), route.operation
        assert rest.dump() == before

    @pytest.mark.parametrize("kind", ["text/html", "application/json; charset=utf-16", "application/xml", "json"])
    @pytest_twisted.ensureDeferred
    async def test_what_does_not_call_itself_json_is_415(self, rest: Rest, kind: str) -> None:
        for route in with_bodies(rest):
            if not route.raw_body:
                path = re.sub(r"<\w+_id>", str(UUID(int=9)), route.path) + "?deviceName=n"
                status, _, _ = await rest.ask(
                    route.method, path, {"name": "n"}, token=rest.token_for(route), headers={"Content-Type": kind}
                )
                assert status == 415, route.operation

    @pytest_twisted.ensureDeferred
    async def test_of_a_member_given_twice_the_last_counts(self, rest: Rest) -> None:
        status, made, _ = await rest.ask("POST", "/api/device", b'{"name":"a","name":"b"}')
        assert (status, made["name"]) == (200, "b")

    @pytest.mark.parametrize("value", [-(2**63), 2**64, 1e308, "\x00", {"\x00": "\x00"}, [None, True, {}]])
    @pytest_twisted.ensureDeferred
    async def test_any_json_can_be_kept(self, rest: Rest, value: Any) -> None:
        status, made, _ = await rest.ask("POST", "/api/device", {"name": "n", "additionalInfo": value})
        assert (status, made["additionalInfo"]) == (200, value)
        assert (await rest.ask("GET", f"/api/device/{made['id']['id']}"))[1]["additionalInfo"] == value


class TestCallersWhoLeave:
    """A handler that a departing caller could stop would leave the store and the memory of one process at odds."""

    def test_a_change_goes_on_to_its_end(self, rest: Rest) -> None:
        link = rest.link()
        gate, delete = Deferred[None](), rest.store.delete_device
        rest.store.delete_device = lambda device_id: gate.addCallback(lambda _: delete(device_id))  # type: ignore[method-assign]
        leave(rest, "DELETE", f"/api/device/{rest.device.id}")
        gate.callback(None)
        assert link.closed

    def test_a_read_ends(self, rest: Rest) -> None:
        ended: list[Deferred[None]] = []
        rest.store.device_by_name = lambda *_: Deferred(ended.append)  # type: ignore[method-assign]
        leave(rest, "GET", "/api/tenant/device?deviceName=x")
        assert len(ended) == 1

    def test_a_call_is_cancelled_and_recorded(self, rest: Rest) -> None:
        link = rest.link()
        leave(rest, "POST", rest.rpc(), {"method": "get"})
        assert len(link.calls) == 1
        assert rest.broker.pending_count == 0
        (entry,) = rest.audit()
        assert (entry.action, entry.failure) == ("RPC_CALL", "CANCELLED: The caller left")

    @pytest.mark.parametrize("more", [{}, {"persistent": True}, {"requestUUID": str(UUID(int=7))}])
    @pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
    def test_a_call_that_is_not_begun_yet_is_recorded_as_cancelled(self, rest: Rest, more: Any, accept: str) -> None:
        reading: list[Deferred[None]] = []
        rest.store.device = lambda _: Deferred(reading.append)  # type: ignore[method-assign]
        leave(rest, "POST", rest.rpc(), {"method": "get"} | more, headers={"Accept": accept})
        assert len(reading) == 1
        (entry,) = rest.audit()
        assert (entry.action, entry.failure) == ("RPC_CALL", "CANCELLED: The caller left")
        assert rest.broker.known_session(rest.device.id) is None

    @pytest.mark.parametrize(
        ("more", "failure"),
        [({}, "CANCELLED: The caller left"), ({"requestUUID": str(UUID(int=7))}, ""), ({"persistent": True}, "")],
    )
    def test_one_that_goes_on_is_recorded_as_made(self, rest: Rest, more: Any, failure: str) -> None:
        rest.link()
        rest.store.calls.insert = lambda _: Deferred()  # type: ignore[method-assign]
        leave(rest, "POST", rest.rpc(), {"method": "get"} | more)
        (entry,) = rest.audit()
        assert (entry.action, entry.failure) == ("RPC_CALL", failure)
