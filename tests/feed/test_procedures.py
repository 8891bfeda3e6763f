"""The broker's own procedures, as sessions call them: rights, audit and words are those of REST."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, device, error_of, result_of
from feeding import feed_of, watch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_world import CALL, DELAY, SWITCH, RuleWorld, graph
from sessions import FakeSession
from twisted.internet.defer import Deferred

from rpcbroker.core import snapshot as snapshots
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.calls import CallRequest, Step
from rpcbroker.core.errors import (
    BrokerError,
    CallCancelled,
    CallTimeout,
    InvalidRequest,
    NoActiveConnection,
    NotFound,
    PermissionDenied,
    Reason,
)
from rpcbroker.core.model import AuditFilter, Authority, KeyAccess, KeyScope, PageLink, Principal
from rpcbroker.core.settings import AuditSettings
from rpcbroker.core.snapshot import Snapshot
from rpcbroker.feed.ports import Invocation, Payload
from rpcbroker.feed.procedures import Procedures

RPC_ID = UUID(int=0xCA11)
USER = replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER, user_id=UUID(int=11), email="u@x.org")


class Called(RuleWorld):
    """A device that can be called, one of a customer, one of another tenant; and sessions that call procedures."""

    def __init__(self, audit: Any = None, **more: Any) -> None:
        super().__init__(**more)
        self.lamp, self.foreign = device(101, customer_id=CUSTOMER), device(102, tenant=OTHER_TENANT)
        for one in (self.lamp, self.foreign):
            self.add(one)
        self.feed = feed_of(self)
        self.trail = AuditTrail(
            self.store.audit, settings=AuditSettings(**audit or {}), deadlines=self.broker.deadlines, now_ms=self.now_ms
        )
        self.procedures = Procedures(
            broker=self.broker,
            store=self.store,
            trail=self.trail,
            snapshot=Snapshot(self.broker, self.feed, now_ms=self.now_ms),
            new_uuid=self.new_uuid,
            seconds=self.clock.seconds,
        )

    def ask(
        self, name: str, *args: Any, by: Principal = ADMIN, progress: Any = None, **kwargs: Any
    ) -> Deferred[Payload]:
        procedure = self.procedures.find(f"rpcbroker.{name}")
        assert procedure is not None
        invocation = Invocation(
            session=FakeSession(by),
            procedure=f"rpcbroker.{name}",
            payload=Payload(list(args), kwargs),
            progress=progress,
        )
        return Deferred.fromCoroutine(procedure(invocation))  # type: ignore[arg-type]

    def one(self, name: str, *args: Any, **more: Any) -> Any:
        """The one positional result."""
        payload = result_of(self.ask(name, *args, **more))
        assert payload.kwargs == {}
        (value,) = payload.args
        return value

    def audited(self) -> list[Any]:
        result_of(self.trail.flush())
        found = self.store.audit.entries(AuditFilter(tenant_id=TENANT), PageLink(page_size=100))
        return [each for each in result_of(found).items if each.action == "RPC_CALL"]


def key(**scope: Any) -> Principal:
    return replace(ADMIN, scope=KeyScope(**{"access": KeyAccess.CALL} | scope), key_name="panel")


def test_there_are_these_procedures_and_no_others() -> None:
    world = Called()
    for name in ("call", "notify", "call.timeline", "device.list", "snapshot"):
        assert world.procedures.find(f"rpcbroker.{name}") is not None
    for name in ("rpcbroker.calls", "rpcbroker.", "call", "rpcbroker.call.timeline.x", ""):
        assert world.procedures.find(name) is None


# -- calls


def test_a_call_results_in_what_the_device_says() -> None:
    world = Called()
    link = world.link(reply=b'{"value":[1,null,"\xc3\xbc"]}')
    device_id = str(world.device.id)
    assert world.one("call", device_id, "get", {"pin": 7}) == {"value": [1, None, "ü"]}
    assert world.one("call", deviceId=device_id, method="get", params=[1]) == {"value": [1, None, "ü"]}
    assert world.one("call", device_id, method="get") == {"value": [1, None, "ü"]}
    assert [(call.method, call.params, call.oneway) for call in link.calls] == [
        ("get", b'{"pin":7}', False),
        ("get", b"[1]", False),
        ("get", b"null", False),
    ]


def test_a_device_that_says_nothing_is_a_result_without_arguments() -> None:
    world = Called()
    link = world.link()
    called = world.ask("call", str(world.device.id), "get")
    link.session.receive(link.calls[0].wire_id, b"")
    assert result_of(called) == Payload()


def test_a_command_is_done_when_the_device_has_it() -> None:
    world = Called()
    link = world.link(step=None)
    called = world.ask("notify", str(world.device.id), "set", True)
    assert not called.called
    link.session.report(link.calls[0].wire_id, Step.ACKNOWLEDGED)
    assert result_of(called) == Payload()
    assert link.calls[0].oneway


def test_a_persistent_call_results_in_its_id() -> None:
    world = Called()
    told = world.one("call", str(world.device.id), "get", persistent=True, requestUUID=str(RPC_ID), timeout=60_000)
    assert told == {"rpcId": str(RPC_ID)}
    assert world.one("call.timeline", str(RPC_ID))["persistent"] is True


def test_times_are_milliseconds_as_over_rest() -> None:
    world = Called()
    called = world.ask("call", str(world.device.id), "get", timeout=7_000)
    world.clock.advance(6.9)
    assert not called.called
    world.clock.advance(0.2)
    assert isinstance(error_of(called), NoActiveConnection)
    error = error_of(world.ask("call", str(world.device.id), "get", connectTimeout=0))
    assert (error.reason, error.rpc_id) != (None, None)


def test_progress_is_told_to_who_wants_it() -> None:
    world = Called()
    link = world.link(step=Step.WRITTEN)
    told: list[Payload] = []
    called = world.ask("call", str(world.device.id), "get", progress=told.append)
    world.ask("call", str(world.device.id), "get").addErrback(lambda _: None)
    for call in link.calls:
        link.session.progress(call.wire_id, b'{"done":50}')
    assert told == [Payload([{"done": 50}])]
    link.session.receive(link.calls[0].wire_id, b"true")
    assert result_of(called) == Payload([True])
    world.clock.advance(60)


def test_who_cancels_cancels_the_call() -> None:
    world = Called()
    link = world.link()
    called = world.ask("call", str(world.device.id), "get")
    assert world.session().pending_count == 1
    called.cancel()
    assert isinstance(error_of(called), CallCancelled)
    assert world.session().pending_count == 0
    assert len(link.calls) == 1


@pytest.mark.parametrize("asked", [{}, {"requestUUID": str(RPC_ID)}])
def test_who_cancels_before_the_device_is_looked_up_has_cancelled_the_call(asked: dict[str, Any]) -> None:
    world = Called()
    world.store.device = lambda _: Deferred()  # type: ignore[method-assign]
    called = world.ask("call", str(world.device.id), "get", **asked)
    called.cancel()
    assert error_of(called).reason is Reason.CANCELLED
    assert [entry.failure for entry in world.audited()] == ["CANCELLED: The caller left"]


def test_who_cancels_a_call_with_an_id_of_its_own_asks_no_more_and_may_ask_again() -> None:
    world = Called()
    link = world.link()
    asked = {"requestUUID": str(RPC_ID)}
    called = world.ask("call", str(world.device.id), "get", **asked)
    called.cancel()
    called.addErrback(lambda _: None)
    again = world.ask("call", str(world.device.id), "get", **asked)
    link.session.receive(link.calls[0].wire_id, b"1")
    assert result_of(again) == Payload([1])
    assert len(link.calls) == 1


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ([], {}, "'deviceId' must be a UUID"),
        (["x", "get"], {}, "'deviceId': Invalid UUID string: x"),
        ([7, "get"], {}, "'deviceId' must be a UUID"),
        (["DEVICE"], {}, "the member 'method' is missing"),
        (["DEVICE", "get"], {"method": "set"}, "method: given twice"),
        (["DEVICE", "get", 1, 2], {}, "There are 4 arguments"),
        (["DEVICE", "get"], {"connectTimeout": "soon"}, "'connectTimeout' must be a number of milliseconds"),
        (["DEVICE", "get"], {"requestUUID": 7}, "'requestUUID' must be a UUID"),
        (["DEVICE", "get"], {"submitStrategy": "x"}, "'submitStrategy' must be one of"),
        (["DEVICE", "get", {1.5: {2: object()}}], {}, "This cannot be said in JSON"),
        (["DEVICE", "get", "\ud800"], {}, "This cannot be said in JSON"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(args: list[Any], kwargs: dict[str, Any], words: str) -> None:
    world = Called()
    given = [str(world.device.id) if each == "DEVICE" else each for each in args]
    error = error_of(world.ask("call", *given, **kwargs))
    assert isinstance(error, InvalidRequest)
    assert error.message.startswith(words)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["call", "notify", "call.timeline", "device.list", "snapshot"]),
    st.lists(_JSON, max_size=4),
    st.dictionaries(
        st.sampled_from(
            [
                "deviceId",
                "method",
                "params",
                "timeout",
                "persistent",
                "retries",
                "expirationTime",
                "text",
                "page",
                "pageSize",
                "rpcId",
                "requestUUID",
                "connectTimeout",
                "submitStrategy",
                "other",
            ]
        ),
        _JSON,
        max_size=5,
    ),
    st.booleans(),
)
def test_whatever_is_asked_the_answer_is_a_result_or_an_error_of_ours(
    name: str, args: list[Any], kwargs: dict[str, Any], known: bool
) -> None:
    world = HOSTILE
    if known:
        args = [str(world.device.id), *args[1:]]
        kwargs.pop("deviceId", None)
    asked = world.ask(name, *args, **kwargs)
    world.clock.advance(0)
    asked.cancel()
    asked.addErrback(lambda failure: failure.trap(BrokerError))
    world.clock.advance(1)


HOSTILE = Called()
HOSTILE.link(reply=b"1")


@pytest.mark.parametrize("by", [USER, replace(ADMIN, tenant_id=OTHER_TENANT), key(device_ids=(UUID(int=101),))])
@pytest.mark.parametrize("name", ["call", "notify", "snapshot"])
def test_a_foreign_device_is_one_that_does_not_exist(by: Principal, name: str) -> None:
    world = Called()
    more = {} if name == "snapshot" else {"method": "get"}
    foreign = error_of(world.ask(name, str(world.device.id), by=by, **more))
    unknown = error_of(world.ask(name, str(UUID(int=999)), by=by, **more))
    assert type(foreign) is type(unknown) is NotFound
    assert foreign.message == unknown.message


@pytest.mark.parametrize(
    ("by", "name", "method", "may"),
    [
        (key(access=KeyAccess.READ), "call", "get", False),
        (key(methods=("get*",)), "call", "get", True),
        (key(methods=("get*",)), "call", "set", False),
        (key(oneway=False), "notify", "set", False),
        (key(twoway=False), "call", "get", False),
        (key(twoway=False), "notify", "set", True),
        (replace(ADMIN, authority=Authority.SYS_ADMIN), "call", "get", False),
    ],
)
def test_keys_call_what_they_may(by: Principal, name: str, method: str, may: bool) -> None:
    world = Called()
    world.link(reply=b"1")
    called = world.ask(name, str(world.device.id), method, by=by)
    if may:
        result_of(called)
    else:
        assert isinstance(error_of(called), PermissionDenied)


def test_calls_are_audited_as_those_over_rest() -> None:
    world = Called()
    world.link(reply=b"1")
    world.one("call", str(world.device.id), "get", {"secret": 1}, by=key())
    error_of(world.ask("call", str(world.device.id), "set", by=key(methods=("get",))))
    error_of(world.ask("call", str(world.foreign.id), "get"))
    foreign, refused, good = sorted(world.audited(), key=lambda entry: -entry.sequence)
    assert (good.entity_id, good.entity_name, good.user_name) == (world.device.id, world.device.name, ADMIN.email)
    assert {name: good.data[name] for name in ("method", "oneWay", "apiKey")} == {
        "method": "get",
        "oneWay": False,
        "apiKey": "panel",
    }
    assert "params" not in good.data
    assert (good.failure, refused.failure) == ("", "The API key may not call this method")
    assert foreign.entity_name is None, "nothing of another tenant is said"


def test_the_settings_say_what_of_calls_is_audited() -> None:
    quiet, loud = Called(audit={"calls": False}), Called(audit={"payloads": True})
    for world in (quiet, loud):
        world.link(reply=b"1")
        world.one("call", str(world.device.id), "get", [7])
    assert quiet.audited() == []
    assert [entry.data["params"] for entry in loud.audited()] == [[7]]


# -- what became of calls


def test_a_time_line_is_that_of_rest() -> None:
    world = Called()
    world.link(reply=b'{"error":"x"}')
    world.one("call", str(world.device.id), "get", requestUUID=str(RPC_ID))
    told = world.one("call.timeline", str(RPC_ID))
    assert (told["rpcId"], told["deviceName"], told["state"]) == (str(RPC_ID), "device-100", "SUCCESSFUL")
    assert told["deviceError"] is True
    assert [step["step"] for step in told["steps"]] == ["accepted", "authorised", "routed", "sent", "answered"]


def test_the_time_line_of_a_foreign_call_is_one_that_does_not_exist() -> None:
    world = Called()
    world.link(reply=b"1")
    world.one("call", str(world.device.id), "get", requestUUID=str(RPC_ID))
    foreign = error_of(world.ask("call.timeline", rpcId=str(RPC_ID), by=USER))
    assert isinstance(foreign, NotFound)
    assert foreign.message == f"Rpc with id [{RPC_ID}] is not found"


# -- devices


def test_devices_are_listed_page_by_page_with_their_presence() -> None:
    world = Called()
    world.link()
    page = world.one("device.list", pageSize=1)
    assert (page["totalElements"], page["totalPages"], page["hasNext"]) == (2, 2, True)
    (first,) = page["data"]
    assert (first["deviceId"], first["deviceName"], first["callable"]) == (str(world.device.id), "device-100", True)
    (second,) = world.one("device.list", None, 1, 1)["data"]
    assert (second["deviceName"], second["connected"], second["callable"]) == ("device-101", False, False)
    assert [each["deviceName"] for each in world.one("device.list", "101")["data"]] == ["device-101"]


@pytest.mark.parametrize(
    ("by", "names"),
    [(USER, ["device-101"]), (replace(USER, customer_id=None), []), (key(device_ids=(UUID(int=100),)), ["device-100"])],
)
def test_only_those_are_listed_that_may_be_seen(by: Principal, names: list[str]) -> None:
    assert [each["deviceName"] for each in Called().one("device.list", by=by)["data"]] == names


@pytest.mark.parametrize("wanted", [{"page": -1}, {"pageSize": 0}, {"pageSize": 1_001}, {"text": "\0"}, {"text": 7}])
def test_a_page_that_cannot_be_is_refused(wanted: dict[str, Any]) -> None:
    assert isinstance(error_of(Called().ask("device.list", **wanted)), InvalidRequest)


# -- snapshots


def waiting(world: Called, of: Any = None, **more: Any) -> None:
    """A call that waits."""
    request = CallRequest(method="get", timeout=10, **more)
    world.call(request, device_id=(of or world.device).id).addErrback(lambda _: None)


def test_a_snapshot_has_devices_calls_and_the_number_that_it_is_true_at() -> None:
    world = Called()
    events = watch(world.feed)
    link = world.link(step=Step.WRITTEN)
    world.session(world.lamp)
    waiting(world, request_id=RPC_ID)
    world.clock.advance(1.5)
    told = world.one("snapshot")
    assert told["seq"] == events[-1].seq
    assert told["ts"] == EPOCH_MS + 1_500
    assert told["counts"] == {"devices": 2, "connected": 1, "callable": 1, "calls": 1}
    assert told["truncated"] is False
    assert [(each["deviceName"], each["connected"], each["callable"]) for each in told["devices"]] == [
        ("device-100", True, True),
        ("device-101", False, False),
    ]
    (call,) = told["calls"]
    last = events[-1].fields
    assert {name: call[name] for name in call if name != "ms"} == {name: last[name] for name in call if name != "ms"}
    assert call["ms"] == 1_500
    link.session.receive(link.calls[0].wire_id, b"1")
    assert world.one("snapshot")["calls"] == []
    assert world.one("snapshot")["seq"] == told["seq"] + 1


def test_a_watcher_that_begins_after_a_snapshot_misses_nothing() -> None:
    world = Called()
    told = world.one("snapshot")
    world.link(reply=b"1")
    result_of(world.call(CallRequest(method="get")))
    missed = world.feed.since(ADMIN, told["seq"])
    assert missed is not None
    assert [event.seq for event in missed] == list(range(told["seq"] + 1, world.feed.seq(TENANT) + 1))
    assert missed


def test_a_snapshot_has_what_may_be_seen() -> None:
    world = Called()
    for one in (world.device, world.lamp):
        world.link(one, step=Step.WRITTEN)
        waiting(world, one)
    for by, names in ((ADMIN, {"device-100", "device-101"}), (USER, {"device-101"})):
        told = world.one("snapshot", by=by)
        assert {each["deviceName"] for each in told["devices"]} == names
        assert {each["deviceName"] for each in told["calls"]} == names
        assert told["counts"]["devices"] == told["counts"]["calls"] == len(names)
    one = world.one("snapshot", deviceId=str(world.lamp.id), by=USER)
    assert [each["deviceName"] for each in one["devices"]] == ["device-101"]
    world.clock.advance(11)


def test_a_call_in_a_chain_is_in_the_snapshot() -> None:
    world = Called()
    world.put(
        graph(
            [(SWITCH, "Switch", {}), (DELAY, "Wait", {"periodInSeconds": 3}), (CALL, "Call", {})],
            (0, 1, "RPC Request to Device"),
            (1, 2, "Success"),
        )
    )
    waiting(world, request_id=RPC_ID)
    assert [each["rpcId"] for each in world.one("snapshot")["calls"]] == [str(RPC_ID)]
    assert world.one("snapshot", by=USER)["calls"] == []
    assert world.one("snapshot", by=replace(ADMIN, tenant_id=OTHER_TENANT))["calls"] == []
    world.clock.advance(3)
    assert [each["rpcId"] for each in world.one("snapshot")["calls"]] == [str(RPC_ID)]
    world.clock.advance(11)


def test_a_snapshot_is_bounded_and_says_so_and_keeps_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MAX_DEVICES", 2)
    monkeypatch.setattr(snapshots, "MAX_CALLS", 1)
    world = Called()
    for number in range(5):
        other = device(200 + number)
        world.add(other)
        world.session(other)
    world.link(step=Step.WRITTEN)
    for _ in range(3):
        waiting(world)
    told = world.one("snapshot")
    assert (len(told["devices"]), len(told["calls"]), told["truncated"]) == (2, 1, True)
    assert told["devices"][0]["deviceName"] == "device-100"
    assert told["counts"] == {"devices": 6, "connected": 1, "callable": 1, "calls": 3}
    world.clock.advance(11)


def test_errors_name_the_call() -> None:
    world = Called()
    world.link()
    called = world.ask("call", str(world.device.id), "get", requestUUID=str(RPC_ID), timeout=5_000)
    world.clock.advance(5)
    error = error_of(called)
    assert isinstance(error, CallTimeout)
    assert (error.reason, error.rpc_id) == (Reason.NO_REPLY, RPC_ID)
