"""What each request of a device does, and how it is answered.

Over 400 lines: each row of the table of paths, done rightly and wrongly, is beside the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from coap_world import CALL, CBOR, GIVEN, JSON, RPC_ID, SECRET, TEXT, TOKEN, Coap, FakePeer, share
from fakes import EPOCH_MS, Slow, World, error_of, result_of, token
from msgspec import structs
from twisted.internet.defer import Deferred, fail, succeed

from rpcbroker.core import jsontext
from rpcbroker.core.errors import NotFound, Unavailable
from rpcbroker.core.model import Scope
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import LimitsSettings
from rpcbroker.transports.coap import who
from rpcbroker.transports.coap.exchange import Refused
from rpcbroker.wire.coap.numbers import Code, ContentFormat


@pytest.fixture
def coap() -> Coap:
    return Coap()


def attributes(coap: Coap, scope: Scope = Scope.CLIENT) -> dict[str, Any]:
    client, shared = result_of(
        Deferred.fromCoroutine(coap.world.broker.attributes.of_device(coap.session.device.id, (), ()))
    )
    halves = {Scope.CLIENT: client, Scope.SHARED: shared}
    return {key: jsontext.decode(bytes(value)) for key, value in halves[scope].items()}


class TestEachRequest:
    def test_calls_are_observed(self, coap: Coap) -> None:
        response = coap.get("rpc", observe=0)
        assert (response.code, response.payload, response.content_format) == (Code.VALID, b"", None)
        assert coap.session.callable

    def test_and_not_any_more(self, coap: Coap) -> None:
        coap.observe()
        assert coap.get("rpc", observe=1).code == Code.DELETED
        assert not coap.session.connected

    def test_who_never_observed_can_end_it_all_the_same(self, coap: Coap) -> None:
        assert coap.get("rpc", observe=1).code == Code.DELETED

    def test_without_observe_there_are_no_calls(self, coap: Coap) -> None:
        response = coap.get("rpc")
        assert (response.code, b"Observe" in response.payload) == (Code.BAD_REQUEST, True)
        assert coap.missed() == {"UNKNOWN_FILTER": "has asked for calls without Observe, and so gets none"}

    def test_a_caller_is_told_so(self, coap: Coap) -> None:
        coap.get("rpc")
        error = error_of(coap.world.call(structs.replace(CALL, connect_timeout=0)))
        assert error.hint == (
            "The device was last seen 0 s ago over CoAP, but has never waited for calls; it has asked for calls "
            "without Observe, and so gets none."
        )

    def test_an_address_that_observes_too_much_is_told_to_come_later(self, coap: Coap) -> None:
        coap.too_many = True
        assert coap.get("rpc", observe=0).code == Code.SERVICE_UNAVAILABLE
        assert not coap.session.connected

    @pytest.mark.parametrize("payload", [b'{"ok":true}', b"7", b"null", b'"x"', b"[1]", b""])
    def test_a_reply_is_any_json_or_nothing(self, coap: Coap, payload: bytes) -> None:
        observation = coap.observe()
        waiting = coap.world.call(CALL)
        assert observation.payloads == [GIVEN]
        assert coap.post("rpc/1", payload).code == Code.CREATED
        assert result_of(waiting).payload == payload

    def test_what_is_not_json_is_refused_and_the_call_goes_on(self, coap: Coap) -> None:
        coap.observe()
        waiting = coap.world.call(CALL)
        response = coap.post("rpc/1", b"{")
        assert response.code == Code.BAD_REQUEST
        assert "BAD_PAYLOAD" in coap.missed()
        assert coap.post("rpc/1", b"1").code == Code.CREATED
        assert result_of(waiting).payload == b"1"

    @pytest.mark.parametrize("number", [1, 77, 0, -1, 2**31 - 1])
    def test_a_reply_that_nobody_waits_for_is_taken(self, coap: Coap, number: int) -> None:
        assert coap.post(f"rpc/{number}", b"1").code == Code.CREATED
        assert "UNKNOWN_REPLY" in coap.missed()

    def test_a_device_cannot_reply_to_another_one_s_call(self, coap: Coap) -> None:
        coap.observe()
        waiting = coap.world.call(CALL)
        other = replace(coap.world.device, id=RPC_ID, name="other")
        coap.world.add(other, "OTHER")
        assert coap.post("/api/v1/OTHER/rpc/1", b"1").code == Code.CREATED
        assert not waiting.called
        waiting.cancel()
        error_of(waiting)

    def test_progress_is_passed_on(self, coap: Coap) -> None:
        coap.observe()
        heard: list[bytes] = []
        waiting = coap.world.call(CALL, progress=heard.append)
        assert coap.post("rpc/1/progress", b"50").code == Code.CREATED
        assert coap.post("rpc/1/progress", b"no").code == Code.BAD_REQUEST
        assert coap.post("rpc/1/Progress", b"60").code == Code.CREATED
        assert heard == [b"50", b"60"]
        coap.post("rpc/1", b"1")
        result_of(waiting)

    def test_a_question_is_answered(self, coap: Coap) -> None:
        response = coap.post("rpc", b'{"method":"getCurrentTime","params":{}}')
        assert (response.code, response.payload, response.content_format) == (Code.CONTENT, b"%d" % EPOCH_MS, JSON)

    def test_a_device_may_ask_how_much_it_may_send(self, coap: Coap) -> None:
        response = coap.post("rpc", b'{"method":"getSessionLimits"}')
        assert jsontext.decode(response.payload)["maxPayloadSize"] == 64 << 10

    def test_a_question_that_nobody_answers_is_answered_so(self, coap: Coap) -> None:
        response = coap.post("rpc", b'{"method":"nonsense"}')
        assert (response.code, response.content_format) == (Code.NOT_FOUND, JSON)
        assert jsontext.decode(response.payload) == {"error": 'no rule answers the method "nonsense"'}

    @pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"no", b'{"method":1}'])
    def test_a_question_that_is_none_is_refused(self, coap: Coap, payload: bytes) -> None:
        assert coap.post("rpc", payload).code == Code.BAD_REQUEST

    def test_telemetry_is_kept(self, coap: Coap) -> None:
        assert coap.post("telemetry", b'{"t":21.5}').code == Code.CREATED
        assert coap.session.presence.seen_cause == "CoAP"

    @pytest.mark.parametrize("payload", [b"", b"no", b"7", b'{"a":NaN}', b"[" * 1000])
    def test_telemetry_that_is_none_is_refused(self, coap: Coap, payload: bytes) -> None:
        response = coap.post("telemetry", payload)
        assert response.code == Code.BAD_REQUEST
        assert response.payload.startswith(b"Invalid payload")
        assert response.authenticated

    def test_telemetry_cannot_be_read(self, coap: Coap) -> None:
        assert coap.get("telemetry").code == Code.BAD_REQUEST

    def test_attributes_are_stored(self, coap: Coap) -> None:
        assert coap.post("attributes", b'{"a":1}').code == Code.CREATED
        assert attributes(coap) == {"a": 1}

    def test_and_read(self, coap: Coap) -> None:
        coap.post("attributes", b'{"a":1,"b":2}')
        share(coap, c=3)
        for query, told in {
            "": {"client": {"a": 1, "b": 2}, "shared": {"c": 3}},
            "?clientKeys=a": {"client": {"a": 1}},
            "?clientKeys=b,x&sharedKeys=c": {"client": {"b": 2}, "shared": {"c": 3}},
            "?sharedKeys=x": {},
            "?nonsense": {"client": {"a": 1, "b": 2}, "shared": {"c": 3}},
        }.items():
            response = coap.get("attributes" + query)
            assert (response.code, jsontext.decode(response.payload)) == (Code.CONTENT, told)

    def test_nothing_is_an_empty_object(self, coap: Coap) -> None:
        response = coap.get("attributes")
        assert (response.code, response.payload) == (Code.CONTENT, b"{}")

    def test_shared_ones_are_observed(self, coap: Coap) -> None:
        share(coap, a=1)
        response = coap.get("attributes", observe=0)
        assert (response.code, jsontext.decode(response.payload)) == (Code.CONTENT, {"a": 1})

    def test_and_not_any_more_which_reads_them(self, coap: Coap) -> None:
        coap.observe("attributes")
        assert coap.get("attributes", observe=1).code == Code.CONTENT
        assert not coap.session.connected

    def test_an_address_that_observes_too_much_reads_them_once(self, coap: Coap) -> None:
        coap.too_many = True
        assert coap.get("attributes", observe=0).code == Code.CONTENT
        assert not coap.session.connected

    def test_a_device_offers_itself(self, coap: Coap) -> None:
        assert coap.post("claim", b'{"secretKey":"s"}').code == Code.CREATED
        assert coap.enrolment.asked == [b'{"secretKey":"s"}']

    def test_an_offer_that_is_none_is_refused(self, coap: Coap) -> None:
        coap.enrolment.offered = lambda: fail(jsontext.BadJSON("no"))
        assert coap.post("claim", b"no").code == Code.BAD_REQUEST

    @pytest.mark.parametrize("feature", ["firmware", "software"])
    def test_updates_are_not_served(self, coap: Coap, feature: str) -> None:
        response = coap.get(feature)
        assert (response.code, response.payload) == (
            Code.NOT_FOUND,
            b"firmware and software updates are not served here",
        )

    @pytest.mark.parametrize("path", ["RPC/1", "Rpc/1", "rPC/1"])
    def test_words_are_not_case_sensitive(self, coap: Coap, path: str) -> None:
        assert coap.post(path, b"1").code == Code.CREATED

    def test_a_path_may_stand_in_one_option(self, coap: Coap) -> None:
        for path in (f"/api/v1/{TOKEN}/telemetry", f"api/v1/{TOKEN}/telemetry"):
            assert coap.post("x", b'{"t":1}', segments=(path,)).code == Code.CREATED

    @pytest.mark.parametrize("code", [3, 4, 5, 6, 7, 8, 31])
    def test_there_are_no_other_methods(self, coap: Coap, code: int) -> None:
        for path in ("rpc", "telemetry", "/api/v1/x/rpc", "/", "/api/v1/provision"):
            assert coap.say(code, path).code == Code.METHOD_NOT_ALLOWED

    @pytest.mark.parametrize(
        ("code", "path"),
        [
            (Code.GET, "rpc/1"),
            (Code.GET, "rpc/1/progress"),
            (Code.GET, "claim"),
            (Code.POST, "firmware"),
            (Code.POST, "software"),
            (Code.GET, "/api/v1/provision"),
            (Code.POST, "/.well-known/core"),
        ],
    )
    def test_not_every_path_has_both(self, coap: Coap, code: int, path: str) -> None:
        assert coap.say(code, path).code == Code.METHOD_NOT_ALLOWED

    def test_what_there_is_can_be_listed_within_three_times_the_request(self, coap: Coap) -> None:
        response = coap.get("/.well-known/core")
        assert (response.code, response.content_format) == (Code.CONTENT, ContentFormat.LINK)
        assert response.payload.startswith(b"</api/v1>;")
        request = len(b"\x40\x01\x12\x34" + b"\xbb.well-known" + b"\x04core")
        assert 4 + len(b"\xc1\x28\xff") + len(response.payload) <= 3 * request
        assert coap.get("/.well-known/core", accept=40).code == Code.CONTENT
        assert coap.get("/.well-known/core", accept=JSON).code == Code.NOT_ACCEPTABLE


class TestStrangers:
    def test_they_become_devices(self, coap: Coap) -> None:
        response = coap.post("/api/v1/provision", SECRET)
        assert (response.code, response.content_format, response.authenticated) == (Code.CREATED, JSON, True)
        assert jsontext.decode(response.payload)["status"] == "SUCCESS"
        assert coap.enrolment.asked == [SECRET]

    def test_or_not(self, coap: Coap) -> None:
        coap.enrolment.answer = lambda: succeed(b'{"errorMsg":"x","status":"NOT_FOUND"}')
        response = coap.post("/api/v1/Provision", SECRET)
        assert (response.code, response.content_format, response.authenticated) == (Code.BAD_REQUEST, JSON, False)
        assert jsontext.decode(response.payload)["status"] == "NOT_FOUND"

    def test_what_cannot_be_read_is_refused(self, coap: Coap) -> None:
        coap.enrolment.answer = lambda: fail(jsontext.BadJSON("no"))
        response = coap.post("/api/v1/provision", b"no")
        assert (response.code, response.content_format) == (Code.BAD_REQUEST, None)

    def test_they_may_speak_cbor(self, coap: Coap) -> None:
        payload = cbor2.dumps(jsontext.decode(SECRET))
        response = coap.post("/api/v1/provision", payload, content_format=CBOR)
        assert cbor2.loads(response.payload)["status"] == "SUCCESS"
        assert coap.enrolment.asked == [SECRET]

    def test_they_are_not_listened_to_for_long(self, coap: Coap) -> None:
        response = coap.post("/api/v1/provision", b" " * 4097)
        assert response.code == Code.REQUEST_ENTITY_TOO_LARGE
        assert coap.enrolment.asked == []


class TestWhoIsNotKnown:
    PATHS = ("rpc", "rpc/1", "rpc/1/progress", "telemetry", "attributes", "claim", "firmware", "nonsense", "rpc/x")

    @pytest.mark.parametrize("unknown", ["undefined", "T", "x" * 32, "x" * 10_000, "TOKEN100 ", "token100", "+", "#"])
    @pytest.mark.parametrize("code", [Code.GET, Code.POST])
    def test_a_token_that_nobody_has_is_answered_the_same_wherever_it_is(
        self, coap: Coap, unknown: str, code: int
    ) -> None:
        for path in self.PATHS:
            for observe in (None, 0, 1):
                response = coap.say(code, f"/api/v1/{unknown}/{path}", b"{", observe=observe)
                assert (response.code, response.payload) == (Code.UNAUTHORIZED, b"unknown access token")
                assert not response.authenticated
        assert coap.observations == {}

    def test_no_token_at_all(self, coap: Coap) -> None:
        assert coap.get("/api/v1").code == Code.UNAUTHORIZED

    def test_only_the_path_of_a_device_has_a_token(self, coap: Coap) -> None:
        assert coap.post("/api/v1/rpc", b"{}").code == Code.UNAUTHORIZED

    def test_a_device_with_other_credentials_has_none(self, coap: Coap) -> None:
        assert coap.post("/api/v1/" + "0" * 32 + "/telemetry", b"{}").code == Code.UNAUTHORIZED

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/x",
            "/api",
            "/api/v2/TOKEN100/rpc",
            "/API/V1/TOKEN100/rpc",
            "/../api/v1/TOKEN100/rpc",
            "/%61pi/v1/TOKEN100/rpc",
            "/v1/devices/me/telemetry",
            "/" + "x" * 300,
            "/".join([""] + ["x"] * 200),
            "/\x00",
        ],
    )
    def test_other_paths_do_not_exist(self, coap: Coap, path: str) -> None:
        assert coap.get(path).code == Code.NOT_FOUND
        assert coap.post(path, b"{}").code == Code.NOT_FOUND

    @pytest.mark.parametrize(
        "path", ["..", "%2e%2e", "\x00", "x" * 300, "telemetry/", "/".join(["x"] * 200), "telemetry/x"]
    )
    def test_nothing_is_read_into_a_path(self, coap: Coap, path: str) -> None:
        assert coap.post(path, b'{"t":1}').code == Code.BAD_REQUEST

    def test_the_store_is_asked_the_same_way_for_right_and_wrong_tokens(self, coap: Coap) -> None:
        for text in (TOKEN, "T" * 8):
            with Slow(coap.world.store, "matching_credentials") as slow:
                answer = coap.site.handle(coap.request(Code.POST, f"/api/v1/{text}/telemetry", b'{"t":1}'))
            assert isinstance(answer, Deferred)
            assert not answer.called
            slow.arrive()
            if text == TOKEN:
                assert result_of(answer).code == Code.CREATED
            else:
                assert error_of(answer).code == Code.UNAUTHORIZED

    def test_who_was_here_is_answered_without_the_store(self, coap: Coap) -> None:
        coap.post("telemetry", b'{"t":1}')
        with Slow(coap.world.store, "matching_credentials"):
            assert coap.post("telemetry", b'{"t":1}').code == Code.CREATED

    def test_when_the_store_is_away_it_is_told_when_to_come_again(self, coap: Coap) -> None:
        coap.world.store.matching_credentials = lambda _: fail(Unavailable("no store"))  # type: ignore[method-assign]
        response = coap.post("telemetry", b"{}")
        assert (response.code, response.max_age, response.authenticated) == (Code.SERVICE_UNAVAILABLE, 5, False)

    def test_so_many_are_looked_up_at_a_time_and_no_more(self, coap: Coap, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(who, "MAX_ENTERING", 2)
        with Slow(coap.world.store, "matching_credentials") as slow:
            waiting = [coap.site.handle(coap.request(Code.POST, "telemetry", b'{"t":1}')) for _ in range(2)]
            assert coap.post("telemetry", b'{"t":1}').code == Code.SERVICE_UNAVAILABLE
            assert result_of(coap.site.admit(coap.request(Code.POST, "telemetry"))).code == Code.SERVICE_UNAVAILABLE
        slow.arrive()
        for each in waiting:
            assert result_of(each).code == Code.CREATED  # type: ignore[arg-type]
        assert coap.post("telemetry", b'{"t":1}').code == Code.CREATED


class TestDiagnostics:
    def requests(self, coap: Coap) -> Iterator[Any]:
        for code in range(1, 8):
            for path in (*TestWhoIsNotKnown.PATHS, "", f"{TOKEN}/rpc", "v1/devices/me/rpc/response/1"):
                for payload in (b"", b"{", f'{{"method":"{"x" * 5}"}}'.encode()):
                    for more in ({}, {"accept": 9}, {"content_format": 9}, {"content_format": CBOR}):
                        yield coap.say(code, path, payload, **more)

    def test_they_never_have_the_token(self, coap: Coap) -> None:
        for response in self.requests(coap):
            assert TOKEN.encode() not in response.payload
        assert not [detail for detail in coap.missed().values() if TOKEN in detail]

    def test_nothing_of_all_that_is_the_server_s_fault(self, coap: Coap) -> None:
        assert {response.code >> 5 for response in self.requests(coap)} == {2, 4}

    @pytest.mark.parametrize(
        ("path", "detail"),
        [
            (
                "telemetri",
                (
                    "has sent a request to 'api/v1/.../telemetri': behind the token must come rpc, telemetry, "
                    "attributes or claim"
                ),
            ),
            (
                "v1/devices/me/rpc/response/1",
                (
                    "has sent a request to 'api/v1/.../v1/devices/me/rpc/response/1': topics "
                    "of MQTT are not spoken here: replies go to /api/v1/{token}/rpc/{id}"
                ),
            ),
            (
                "rpc/x",
                "has sent a request to 'api/v1/.../rpc/x': rpc/ must be followed by the id of a call, a 32-bit integer",
            ),
            (
                "attributes/updates",
                (
                    "has sent a request to 'api/v1/.../attributes/updates': changes of attributes come "
                    "to who observes .../attributes"
                ),
            ),
        ],
    )
    def test_a_path_that_is_none_is_noted(self, coap: Coap, path: str, detail: str) -> None:
        response = coap.post(path, b"1")
        assert response.code == Code.BAD_REQUEST
        assert detail.endswith(response.payload.decode())
        assert coap.missed() == {"UNKNOWN_TOPIC": detail}

    def test_a_method_that_it_has_not_is_noted(self, coap: Coap) -> None:
        coap.get("rpc/1")
        assert coap.missed() == {"UNKNOWN_TOPIC": "has sent a request to 'api/v1/.../rpc/1': GET is not served here"}


class TestFormats:
    def test_cbor_is_read(self, coap: Coap) -> None:
        assert coap.post("attributes", cbor2.dumps({"a": [1]}), content_format=CBOR).code == Code.CREATED
        assert attributes(coap) == {"a": [1]}

    def test_and_what_is_none_is_noted(self, coap: Coap) -> None:
        assert coap.post("attributes", b"\xa1", content_format=CBOR).code == Code.BAD_REQUEST
        assert "BAD_PAYLOAD" in coap.missed()

    @pytest.mark.parametrize("content_format", [40, 42, 65535])
    @pytest.mark.parametrize(
        "path", ["rpc", "rpc/1", "rpc/1/progress", "telemetry", "attributes", "claim", "/api/v1/provision"]
    )
    def test_others_are_not(self, coap: Coap, content_format: int, path: str) -> None:
        assert coap.post(path, b"{}", content_format=content_format).code == Code.UNSUPPORTED_CONTENT_FORMAT

    @pytest.mark.parametrize("path", ["rpc", "attributes", "telemetry", "firmware"])
    def test_nor_written_and_then_nothing_is_done(self, coap: Coap, path: str) -> None:
        assert coap.get(path, accept=41, observe=0).code == Code.NOT_ACCEPTABLE
        assert coap.post(path, b'{"a":1}', accept=41).code == Code.NOT_ACCEPTABLE
        assert attributes(coap) == {}
        assert not coap.session.connected

    @pytest.mark.parametrize(
        ("accept", "content_format", "written"),
        [(None, None, JSON), (CBOR, JSON, CBOR), (None, CBOR, CBOR), (TEXT, None, TEXT)],
    )
    def test_an_answer_is_written_as_asked_for(
        self, coap: Coap, accept: int | None, content_format: int | None, written: int
    ) -> None:
        for method, code in (("getCurrentTime", Code.CONTENT), ("x", Code.NOT_FOUND)):
            question = {"method": method}
            payload = cbor2.dumps(question) if content_format == CBOR else jsontext.encode(question)
            response = coap.post("rpc", payload, accept=accept, content_format=content_format)
            assert (response.code, response.content_format) == (code, written)
            decode = cbor2.loads if written == CBOR else jsontext.decode
            assert decode(response.payload) == (
                EPOCH_MS if method != "x" else {"error": 'no rule answers the method "x"'}
            )


class TestLimits:
    def test_who_sends_too_much_is_told_so(self) -> None:
        coap = Coap()
        coap.world.broker.quotas.reconfigure(LimitsSettings(device_messages=Rate(((1, 60),))))
        paths = ["rpc", "attributes"]
        assert coap.get("attributes").code == Code.CONTENT
        for path in paths:
            response = coap.get(path, observe=0)
            assert (response.code, response.max_age) == (Code.TOO_MANY_REQUESTS, 1)
        for path in ("rpc", "rpc/1/progress", "claim"):
            assert coap.post(path, b'{"method":"getCurrentTime"}').code == Code.TOO_MANY_REQUESTS
        assert "RATE_LIMITED" in coap.missed()
        assert not coap.session.connected

    def test_what_cannot_be_stored_now_is_told_so(self, coap: Coap) -> None:
        coap.world.store.values.save_attributes = lambda *_, **__: fail(Unavailable("no store"))  # type: ignore[method-assign]
        response = coap.post("attributes", b'{"a":1}')
        assert (response.code, response.max_age, response.authenticated) == (Code.SERVICE_UNAVAILABLE, 5, True)

    def test_attributes_that_cannot_be_read_are_not_observed(self, coap: Coap) -> None:
        coap.world.store.values.attributes = lambda *_, **__: fail(Unavailable("no store"))  # type: ignore[method-assign]
        assert coap.get("attributes", observe=0).code == Code.SERVICE_UNAVAILABLE
        ((observation),) = coap.observations.values()
        assert observation.ended
        assert observation.last is None
        assert not coap.session.connected

    def test_a_device_that_goes_while_it_is_served_is_told_so(self, coap: Coap) -> None:
        coap.world.store.values.save_attributes = lambda *_, **__: fail(NotFound("gone"))  # type: ignore[method-assign]
        assert coap.post("attributes", b'{"a":1}').code == Code.NOT_FOUND


class TestLargeBodies:
    """Whether the rest of a body comes, of which the first block is there."""

    def test_a_device_may_send_one(self, coap: Coap) -> None:
        assert result_of(coap.site.admit(coap.request(Code.POST, "telemetry", b"["))) is True
        assert coap.site.admit(coap.request(Code.POST, "telemetry", b"[")) is True

    def test_a_stranger_may_send_one_only_in_order_to_become_a_device(self, coap: Coap) -> None:
        assert coap.site.admit(coap.request(Code.POST, "/api/v1/provision", b"{")) is False

    @pytest.mark.parametrize(
        ("path", "more", "code"),
        [
            ("/api/v1/x/telemetry", {}, Code.UNAUTHORIZED),
            ("/api/v1", {}, Code.UNAUTHORIZED),
            ("/x", {}, Code.NOT_FOUND),
            ("telemetry", {"content_format": 42}, Code.UNSUPPORTED_CONTENT_FORMAT),
            ("telemetry", {"accept": 42}, Code.NOT_ACCEPTABLE),
        ],
    )
    def test_others_are_refused_before_it_comes(self, coap: Coap, path: str, more: Any, code: int) -> None:
        admitted: Any = coap.site.admit(coap.request(Code.POST, path, b"[", **more))
        refused = result_of(admitted) if isinstance(admitted, Deferred) else admitted
        assert isinstance(refused, Refused)
        assert refused.code == code
        assert isinstance(coap.site.admit(coap.request(Code.PUT, "telemetry", b"[")), Refused)

    def test_so_are_all_while_the_store_is_away(self, coap: Coap) -> None:
        coap.world.store.matching_credentials = lambda _: fail(Unavailable("no store"))  # type: ignore[method-assign]
        refused = result_of(coap.site.admit(coap.request(Code.POST, "telemetry", b"[")))
        assert refused.code == Code.SERVICE_UNAVAILABLE


class TestEnds:
    """Tokens that are good no longer."""

    def change_token(self, coap: Coap) -> None:
        new = replace(token(coap.world.device), credentials_id="NEW", version=2)
        result_of(coap.world.store.update_credentials(new))
        coap.world.broker.credentials_changed(coap.world.device.id)

    def test_a_device_that_was_deleted_is_told_so_and_not_known_any_more(self, coap: Coap) -> None:
        observations = coap.observe(), coap.observe("attributes")
        coap.delete()
        for observation in observations:
            assert observation.last is not None
            assert (observation.last.code, observation.last.payload) == (Code.DELETED, b"")
        assert coap.post("telemetry", b'{"t":1}').code == Code.UNAUTHORIZED

    def test_nor_is_a_token_that_was_replaced(self, coap: Coap) -> None:
        observation = coap.observe()
        self.change_token(coap)
        assert observation.last is not None
        assert coap.post("telemetry", b'{"t":1}').code == Code.UNAUTHORIZED
        assert coap.post("/api/v1/NEW/telemetry", b'{"t":1}').code == Code.CREATED

    def test_one_that_is_replaced_while_it_is_looked_up_does_not_enter(self, coap: Coap) -> None:
        with Slow(coap.world.store, "matching_credentials") as slow:
            answer = coap.site.handle(coap.request(Code.GET, "rpc", observe=0))
        self.change_token(coap)
        slow.arrive()
        assert error_of(answer).code == Code.UNAUTHORIZED  # type: ignore[arg-type]
        assert coap.observations == {}


class TestPersistentCalls:
    def test_a_reply_is_acknowledged_when_it_is_on_disk(self) -> None:
        coap = Coap(world=World())
        coap.observe()
        result_of(coap.world.call(structs.replace(CALL, persistent=True)))
        with Slow(coap.world.store.calls, "end") as slow:
            answer = coap.site.handle(coap.request(Code.POST, "rpc/1", b'{"ok":1}'))
        assert isinstance(answer, Deferred)
        assert not answer.called
        slow.arrive()
        assert result_of(answer).code == Code.CREATED

    def test_one_that_cannot_be_kept_is_to_come_again(self) -> None:
        coap = Coap()
        coap.observe()
        result_of(coap.world.call(structs.replace(CALL, persistent=True)))
        coap.world.store.calls.end = lambda _: fail(Unavailable("no store"))  # type: ignore[method-assign]
        response = coap.post("rpc/1", b"1")
        assert (response.code, response.max_age) == (Code.SERVICE_UNAVAILABLE, 5)
        del coap.world.store.calls.end
        coap.world.clock.advance(2)
        assert coap.post("rpc/1", b"1", peer=FakePeer()).code == Code.CREATED
