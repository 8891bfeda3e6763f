"""Calls that are answered with server-sent events: which ones come, when, and what ends them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import EPOCH_MS
from rest import Rest
from streams import Stream

ID = UUID(int=7)
ACCEPT = {"Accept": "text/event-stream"}


@pytest.fixture
def rest() -> Rest:
    return Rest()


class Reader(Stream):
    """Somebody who calls and reads the events as they come."""

    def __init__(self, rest: Rest, path: str = "/api/rpc/twoway", **body: Any) -> None:
        super().__init__(rest, "POST", rest.rpc(path), {"method": "get"} | body, headers=ACCEPT)


def test_interim_answers_come_when_the_device_gives_them_and_the_last_one_ends_it(rest: Rest) -> None:
    link = rest.link()
    reader = Reader(rest, requestUUID=str(ID))
    assert reader.response.code == 200
    assert reader.header("content-type") == ["text/event-stream"]
    assert reader.header("cache-control") == ["no-store"]
    assert reader.header("x-rpc-id") == [str(ID)]
    assert reader.events() == []
    wire_id = link.calls[0].wire_id
    for done in (1, 2):
        assert rest.session().progress(wire_id, b'{\n"done":%d}' % done)
        assert reader.events() == [("progress", {"done": done})]
    assert not reader.over
    assert rest.session().receive(wire_id, b'[1, "x"]')
    assert reader.events() == [("result", [1, "x"])]
    assert reader.over
    (entry,) = rest.audit()
    assert (entry.action, entry.failure, entry.data["rpcId"]) == ("RPC_CALL", "", str(ID))


@pytest.mark.parametrize(
    ("path", "body", "result"),
    [
        ("/api/rpc/oneway", {}, None),
        ("/api/plugins/rpc/twoway", {}, {"a": 1}),
        ("/api/rpc/twoway", {"persistent": True}, {"rpcId": str(ID)}),
        ("/api/rpc/oneway", {"persistent": True}, {"rpcId": str(ID)}),
    ],
)
def test_without_interim_answers_there_is_the_result_alone(rest: Rest, path: str, body: Any, result: Any) -> None:
    rest.link(reply=b'{"a":1}')
    reader = Reader(rest, path, requestUUID=str(ID), **body)
    assert reader.events() == [("result", result)]
    assert reader.over


def test_an_empty_reply_is_null(rest: Rest) -> None:
    rest.link(reply=b"")
    assert Reader(rest).events() == [("result", None)]


@pytest.mark.parametrize(("base", "status"), [("/api/rpc", 504), ("/api/plugins/rpc", 408)])
def test_a_call_that_fails_ends_in_an_error_with_the_status_that_it_would_have_had(
    rest: Rest, base: str, status: int
) -> None:
    rest.link()
    reader = Reader(rest, f"{base}/twoway")
    rest.clock.advance(10.1)
    ((name, error),) = reader.events()
    assert (reader.response.code, name) == (200, "error")
    assert (error["status"], error["reason"], error["timestamp"]) == (status, "NO_REPLY", EPOCH_MS + 10_100)
    assert error["hint"]
    assert reader.over
    (entry,) = rest.audit()
    assert entry.failure.startswith("NO_REPLY")


def test_comments_come_while_the_device_thinks(rest: Rest) -> None:
    rest.link()
    reader = Reader(rest, timeout=60_000)
    rest.clock.advance(16)
    rest.treq.flush()
    assert reader.read == b":\n\n"


@pytest.mark.parametrize(
    ("body", "goes_on", "failure"),
    [
        ({}, 0, "CANCELLED: The caller left"),
        ({"requestUUID": str(ID)}, 1, ""),
    ],
)
def test_a_caller_who_leaves_cancels_the_call_unless_it_has_an_id(
    rest: Rest, body: Any, goes_on: int, failure: str
) -> None:
    link = rest.link()
    reader = Reader(rest, **body)
    rest.session().progress(link.calls[0].wire_id, b"1")
    assert reader.events() == [("progress", 1)]
    assert rest.broker.pending_count == 1
    reader.leave()
    assert rest.broker.pending_count == goes_on
    (entry,) = rest.audit()
    assert (entry.action, entry.failure) == ("RPC_CALL", failure)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"method": "get", "submitStrategy": "x"}, 400), ({}, 400)],
)
@pytest_twisted.ensureDeferred
async def test_what_is_wrong_with_the_request_is_a_status(rest: Rest, body: Any, status: int) -> None:
    found, answer, headers = await rest.ask("POST", rest.rpc(), body, headers=ACCEPT)
    assert (found, answer["errorCode"]) == (status, 31)
    assert headers.getRawHeaders("content-type") == ["application/json"]


@pytest_twisted.ensureDeferred
async def test_who_may_not_call_is_told_so_before_any_event(rest: Rest) -> None:
    body = {"method": "get"}
    assert (await rest.ask("POST", rest.rpc(), body, token=None, headers=ACCEPT))[0] == 401
    assert (await rest.ask("POST", rest.rpc(device_id=ID), body, headers=ACCEPT))[0] == 404
    assert (await rest.ask("POST", rest.rpc(), body, token=rest.sys_token, headers=ACCEPT))[0] == 403
    made = await rest.ok("POST", "/api/apiKey", {"description": "k", "scope": {"access": "CALL", "methods": ["set*"]}})
    status, answer, headers = await rest.ask("POST", rest.rpc(), body, token=f"ApiKey {made['value']}", headers=ACCEPT)
    assert (status, answer["errorCode"]) == (403, 20)
    assert headers.getRawHeaders("x-rpc-id")


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream", True),
        ("application/json;q=0.5, text/event-stream", True),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream, application/json", False),
        ("*/*", False),
        ("text/html", False),
        ("text/event-stream;q=0", False),
        ("", False),
        ("\xff;;,q=", False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_who_likes_json_as_much_gets_json(rest: Rest, accept: str, streams: bool) -> None:
    rest.link(reply=b"1")
    headers = {"Accept": accept.encode("latin-1")}
    status, answer, sent = await rest.ask("POST", rest.rpc(), {"method": "get"}, headers=headers)
    assert status == 200
    assert (sent.getRawHeaders("content-type") == ["text/event-stream"]) == streams
    assert answer == ("event: result\ndata: 1\n\n" if streams else 1)
