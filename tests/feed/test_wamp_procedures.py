"""What applications register and call: each call has exactly one end."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, result_of, tenant
from twisted.internet.defer import CancelledError, Deferred
from wamp_world import Lists, Peer, WampWorld

from rpcbroker.core.errors import CallFailed, InvalidRequest, Reason
from rpcbroker.core.model import Authority
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import HttpSettings, Settings
from rpcbroker.feed.errors import Refused
from rpcbroker.feed.messages import Type
from rpcbroker.feed.ports import Invocation, Payload

T = Type
ADD = "com.example.add"
DEAF: dict[str, Any] = {"roles": {"callee": {}, "caller": {}}}
"""A callee that cannot be interrupted."""


@pytest.fixture
def world() -> WampWorld:
    return WampWorld()


def called(callee: Peer) -> int:
    """The id of the one invocation that has come."""
    ((kind, request, *_),) = callee.told()
    assert kind == T.INVOCATION
    return int(request)


def error_of(caller: Peer, request: int) -> str:
    """The one answer, an ERROR."""
    ((kind, of, answered, _, uri, *_),) = caller.told()
    assert (kind, of, answered) == (T.ERROR, T.CALL, request)
    return str(uri)


class TestCalling:
    def test_a_call_goes_to_the_callee_and_its_answer_back(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        registration = callee.register(ADD)
        for expected in (1, 2):
            assert caller.say(T.CALL, 70, {}, ADD, [1, 2], {"a": "b"}) == []
            assert callee.told() == [[T.INVOCATION, expected, registration, {}, [1, 2], {"a": "b"}]]
            assert callee.say(T.YIELD, expected, {}, [3], {"c": {}}) == []
            assert caller.told() == [[T.RESULT, 70, {}, [3], {"c": {}}]]

    def test_an_error_goes_back_as_it_is(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        request = caller.call(ADD)
        callee.say(T.ERROR, T.INVOCATION, called(callee), {}, "com.example.no", ["why"], {"x": 1})
        assert caller.told() == [[T.ERROR, T.CALL, request, {}, "com.example.no", ["why"], {"x": 1}]]

    def test_who_calls_is_told_if_it_says_so(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        caller.call(ADD, disclose_me=True)
        assert callee.told()[0][3] == {
            "caller": caller.member.id,
            "caller_authid": "Admin@example.org",
            "caller_authrole": "TENANT_ADMIN",
        }

    def test_a_procedure_that_is_not_there(self, world: WampWorld) -> None:
        caller = world.join()
        for uri in (ADD, "rpcbroker.nothing", "rpcbroker.method.x", "wamp.registration.list", "wamp.nothing"):
            assert caller.result(uri) == ["wamp.error.no_such_procedure"]

    def test_progress_comes_to_who_wants_it(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        wanted, unwanted = caller.call(ADD, receive_progress=True), caller.call(ADD)
        first, second = callee.told()
        assert (first[3], second[3]) == ({"receive_progress": True}, {})
        for invocation in (first[1], second[1]):
            callee.say(T.YIELD, invocation, {"progress": True}, ["half"])
        assert caller.told() == [[T.RESULT, wanted, {"progress": True}, ["half"]]]
        for invocation in (first[1], second[1]):
            callee.say(T.YIELD, invocation, {}, ["all"])
        assert caller.told() == [[T.RESULT, wanted, {}, ["all"]], [T.RESULT, unwanted, {}, ["all"]]]

    def test_what_is_answered_to_no_invocation_of_ones_own_goes_nowhere(self, world: WampWorld) -> None:
        callee, caller, stranger = world.join(), world.join(), world.join()
        callee.register(ADD)
        stranger.register("com.example.other")
        request = caller.call(ADD)
        invocation = called(callee)
        for peer, ids in ((stranger, (invocation, 2, 2**53)), (callee, (invocation + 1, 2**53)), (caller, (1,))):
            for each in ids:
                assert peer.say(T.YIELD, each, {}, ["forged"]) == []
                assert peer.say(T.YIELD, each, {"progress": True}, ["forged"]) == []
                assert peer.say(T.ERROR, T.INVOCATION, each, {}, "com.example.forged") == []
        assert caller.told() == []
        callee.say(T.YIELD, invocation, {}, ["true"])
        callee.say(T.YIELD, invocation, {}, ["again"])
        callee.say(T.ERROR, T.INVOCATION, invocation, {}, "com.example.again")
        assert caller.told() == [[T.RESULT, request, {}, ["true"]]]

    def test_what_cannot_be_told_to_the_other_is_an_error(self, world: WampWorld) -> None:
        poor = Lists("poor")
        poor.unsayable = ["x"]
        callee, caller = world.join(serializer=poor), world.join()
        callee.register(ADD)
        assert caller.result(ADD, "x") == ["wamp.error.invalid_argument"]
        caller.register("com.example.rich")
        request = callee.call("com.example.rich", receive_progress=True)
        invocation = called(caller)
        caller.say(T.YIELD, invocation, {"progress": True}, ["x"])
        caller.say(T.YIELD, invocation, {}, ["x"])
        assert error_of(callee, request) == "wamp.error.invalid_argument"
        request = callee.call("com.example.rich")
        caller.say(T.ERROR, T.INVOCATION, called(caller), {}, "com.example.no", ["x"])
        assert error_of(callee, request) == "com.example.no"

    def test_ones_own_procedure_may_be_called(self, world: WampWorld) -> None:
        peer = world.join()
        peer.register(ADD)
        request = peer.call(ADD)
        peer.say(T.YIELD, called(peer), {}, [1])
        assert peer.closed is None
        assert request


class TestRegistering:
    def test_a_second_one_is_refused_until_the_first_ends(self, world: WampWorld) -> None:
        first, second = world.join(), world.join()
        registration = first.register(ADD)
        for peer in (first, second):
            assert peer.request(T.REGISTER, {}, ADD)[0] == "wamp.error.procedure_already_exists"
        for each in (registration, registration + 1, 2**53):
            assert second.request(T.UNREGISTER, each)[0] == "wamp.error.no_such_registration"
        assert first.request(T.UNREGISTER, registration) == []
        assert first.request(T.UNREGISTER, registration)[0] == "wamp.error.no_such_registration"
        assert second.register(ADD) != registration

    def test_several_answer_in_turn(self, world: WampWorld) -> None:
        callees, caller = [world.join() for _ in range(3)], world.join()
        assert len({callee.register(ADD, invoke="roundrobin") for callee in callees}) == 1
        for _ in range(6):
            caller.call(ADD)
        assert [len(callee.told()) for callee in callees] == [2, 2, 2]
        callees[1].session.lost()
        for _ in range(4):
            caller.call(ADD)
        assert [len(callee.told()) for callee in callees] == [2, 0, 2]

    @pytest.mark.parametrize(
        ("options", "uri"),
        [
            ({"invoke": "single"}, "wamp.error.procedure_exists_invocation_policy_conflict"),
            ({"invoke": "roundrobin"}, "wamp.error.procedure_already_exists"),
            ({"invoke": "random"}, "wamp.error.option_not_allowed"),
            ({"match": "prefix"}, "wamp.error.option_not_allowed"),
            ({"match": "wildcard"}, "wamp.error.option_not_allowed"),
        ],
    )
    def test_what_cannot_be_shared(self, world: WampWorld, options: dict[str, Any], uri: str) -> None:
        peer = world.join()
        peer.register(ADD, invoke="roundrobin")
        assert peer.request(T.REGISTER, options, ADD)[0] == uri

    @pytest.mark.parametrize("uri", ["rpcbroker", "rpcbroker.call", "rpcbroker.method", "wamp", "wamp.session.count"])
    def test_nobody_answers_for_the_broker(self, world: WampWorld, uri: str) -> None:
        assert world.join().request(T.REGISTER, {}, uri)[0] == "wamp.error.not_authorized"

    def test_a_callee_may_still_answer_what_it_has_when_it_unregisters(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        registration = callee.register(ADD)
        request = caller.call(ADD)
        invocation = called(callee)
        callee.request(T.UNREGISTER, registration)
        callee.say(T.YIELD, invocation, {}, [1])
        assert caller.told() == [[T.RESULT, request, {}, [1]]]


class TestQuestionsOfDevices:
    """`rpcbroker.method.<name>` is asked by the broker, not by applications."""

    METHOD = "rpcbroker.method.getRoute"

    def test_an_application_answers(self, world: WampWorld) -> None:
        peer = world.join()
        assert world.router.ask(world.user.tenant_id, "getRoute", Payload()) is None
        peer.register(self.METHOD)
        asked = world.router.ask(world.user.tenant_id, "getRoute", Payload(["d", {"to": 1}], {"deviceName": "n"}))
        assert asked is not None
        ((kind, request, _, details, args, kwargs),) = peer.told()
        assert (kind, details, args, kwargs) == (T.INVOCATION, {}, ["d", {"to": 1}], {"deviceName": "n"})
        peer.say(T.YIELD, request, {}, ["north"])
        assert result_of(asked) == Payload(["north"])
        assert list(world.router.methods(world.user.tenant_id)) == ["getRoute"]
        assert list(world.router.methods(OTHER_TENANT)) == []

    def test_what_it_fails_with_is_told(self, world: WampWorld) -> None:
        peer = world.join()
        peer.register(self.METHOD)
        asked = world.router.ask(world.user.tenant_id, "getRoute", Payload())
        assert asked is not None
        peer.say(T.ERROR, T.INVOCATION, called(peer), {}, "com.example.no", ["lost"])
        with pytest.raises(Refused) as caught:
            result_of(asked)
        assert caught.value.told[:2] == ("com.example.no", ["lost"])

    def test_one_that_is_given_up_interrupts_it(self, world: WampWorld) -> None:
        peer = world.join()
        peer.register(self.METHOD)
        asked = world.router.ask(world.user.tenant_id, "getRoute", Payload())
        assert asked is not None
        invocation = called(peer)
        asked.cancel()
        assert peer.told() == [[T.INTERRUPT, invocation, {"mode": "killnowait", "reason": "wamp.error.canceled"}]]
        peer.say(T.YIELD, invocation, {}, ["late"])
        with pytest.raises(CancelledError):
            result_of(asked)

    @pytest_twisted.ensureDeferred
    async def test_only_who_sees_all_the_tenants_devices_answers(self, world: WampWorld) -> None:
        result_of(world.store.people.create_tenant(tenant()))
        foreign = world.add_user("f@example.org", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)
        tickets = {
            await world.api_key(access="MANAGE"): True,
            await world.api_key(access="CALL"): False,
            await world.api_key(access="CALL", deviceTypes=["default"]): False,
            world.customer_token: False,
            foreign: True,
            world.token: False,  # there it is taken already
        }
        for ticket, may in tickets.items():
            answer = world.join(ticket).request(T.REGISTER, {}, self.METHOD)
            assert isinstance(answer[0], int) == may, answer

    def test_applications_cannot_ask_as_devices(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        callee.register(self.METHOD)
        assert caller.result(self.METHOD) == ["wamp.error.no_such_procedure"]
        assert callee.told() == []


class TestCancelling:
    """https://wamp-proto.org/spec.html, "Call Canceling"."""

    @pytest.mark.parametrize("mode", ["kill", "killnowait", "skip", None])
    @pytest.mark.parametrize("deaf", [False, True])
    def test_a_call_of_an_application(self, world: WampWorld, mode: str | None, deaf: bool) -> None:
        callee, caller = world.join(**DEAF if deaf else {}), world.join()
        callee.register(ADD)
        request = caller.call(ADD)
        invocation = called(callee)
        told = caller.say(T.CANCEL, request, {"mode": mode} if mode else {})
        interrupted = callee.told()
        if mode == "skip" or deaf:
            assert interrupted == []
        else:
            details = {"mode": mode or "killnowait", "reason": "wamp.error.canceled"}
            assert interrupted == [[T.INTERRUPT, invocation, details]]
        if mode == "kill" and not deaf:
            assert told == []
            callee.say(T.ERROR, T.INVOCATION, invocation, {}, "wamp.error.canceled")
            assert error_of(caller, request) == "wamp.error.canceled"
        else:
            caller.sent = told
            assert error_of(caller, request) == "wamp.error.canceled"
            assert callee.say(T.YIELD, invocation, {}, ["late"]) == []
        assert caller.told() == []
        assert caller.say(T.CANCEL, request, {}) == []
        assert caller.say(T.CANCEL, 2**53, {}) == []

    @pytest.mark.parametrize("mode", ["kill", "killnowait", "skip"])
    def test_a_call_of_the_broker_itself(self, world: WampWorld, mode: str) -> None:
        ended: list[str] = []
        waiting: Deferred[None] = Deferred(lambda _: ended.append("cancelled"))
        serve(world, "rpcbroker.slow", waiting)
        caller = world.join()
        request = caller.call("rpcbroker.slow")
        caller.sent = caller.say(T.CANCEL, request, {"mode": mode})
        assert error_of(caller, request) == "wamp.error.canceled"
        assert ended == ["cancelled"]

    def test_whatever_the_broker_makes_of_it_the_caller_is_told_that_it_was_cancelled(self, world: WampWorld) -> None:
        waiting: Deferred[None] = Deferred(lambda late: late.errback(CallFailed("Cancelled", reason=Reason.CANCELLED)))
        serve(world, "rpcbroker.slow", waiting)
        caller = world.join()
        request = caller.call("rpcbroker.slow", timeout=500)
        world.clock.advance(1)
        assert error_of(caller, request) == "wamp.error.timeout"

    @pytest.mark.parametrize("timeout", [1, 1500, 10**15, 10**400])
    def test_a_call_that_takes_too_long(self, world: WampWorld, timeout: int) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        request = caller.call(ADD, timeout=timeout)
        invocation = called(callee)
        seconds = min(timeout, 3_600_000) / 1000
        world.clock.advance(seconds - 0.1)
        assert caller.told() == [] or seconds < 0.1
        world.clock.advance(0.2)
        assert callee.told() == [[T.INTERRUPT, invocation, {"mode": "killnowait", "reason": "wamp.error.timeout"}]]
        assert error_of(caller, request) == "wamp.error.timeout"

    def test_one_that_is_answered_in_time_is_over(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        caller.call(ADD, timeout=1000)
        callee.say(T.YIELD, called(callee), {}, [1])
        assert len(caller.told()) == 1
        world.pass_time(2)
        assert caller.told() == callee.told() == []


class TestPeersThatTakeLittle:
    def test_a_callee_that_does_not_read_is_asked_no_more_until_it_does(self, world: WampWorld) -> None:
        callee, other, caller = world.join(), world.join(), world.join()
        for peer in (callee, other):
            peer.register(ADD, invoke="roundrobin")
        callee.stalled = True
        for _ in range(2):
            caller.call(ADD)
        assert (len(callee.told()), len(other.told())) == (0, 2)
        other.stalled = True
        assert error_of(caller, caller.call(ADD)) == "rpcbroker.error.too_many_requests"
        callee.stalled = False
        caller.call(ADD)
        assert len(callee.told()) == 1

    def test_arguments_that_a_callee_does_not_take_are_refused_and_it_stays(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        callee.most = 512
        assert error_of(caller, caller.call(ADD, "x" * 512)) == "wamp.error.invalid_argument"
        caller.call(ADD, "x")
        assert len(callee.told()) == 1

    @pytest.mark.parametrize("uri", ["com.example.no", "com.example." + "x" * 600])
    def test_who_does_not_take_what_comes_of_its_call_is_told_that(self, world: WampWorld, uri: str) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        caller.most = 512
        request = caller.call(ADD)
        callee.say(T.YIELD, called(callee), {}, ["x" * 600])
        assert error_of(caller, request) == "wamp.error.invalid_argument"
        request = caller.call(ADD)
        assert callee.say(T.ERROR, T.INVOCATION, called(callee), {}, uri, ["x" * 600]) == []
        assert error_of(caller, request) == (uri if len(uri) < 512 else "wamp.error.invalid_argument")
        assert callee.closed is None

    def test_a_callee_is_interrupted_once_however_often_the_caller_says_so(self, world: WampWorld) -> None:
        callee, caller = world.join(), world.join()
        callee.register(ADD)
        request = caller.call(ADD)
        invocation = called(callee)
        for mode in ("kill", "kill", "kill", "killnowait"):
            caller.say(T.CANCEL, request, {"mode": mode})
        assert [message[:2] for message in callee.told()] == [[T.INTERRUPT, invocation]]


def serve(world: WampWorld, uri: str, result: Any, seen: list[Invocation] | None = None) -> None:
    """A procedure of the broker's own: what it waits for, or raises."""

    async def procedure(invocation: Invocation) -> Payload:
        if seen is not None:
            seen.append(invocation)
        if isinstance(result, Exception):
            raise result
        if isinstance(result, Deferred):
            await result
        return Payload([invocation.payload.args], invocation.payload.kwargs)

    known = world.wamp.procedures.find
    world.wamp.procedures.find = lambda asked: procedure if asked == uri else known(asked)  # type: ignore[method-assign]


class TestTheBrokersOwn:
    def test_arguments_and_results(self, world: WampWorld) -> None:
        seen: list[Invocation] = []
        serve(world, "rpcbroker.echo", None, seen)
        caller = world.join()
        assert caller.say(T.CALL, 9, {}, "rpcbroker.echo", [1], {"a": 2}) == [[T.RESULT, 9, {}, [[1]], {"a": 2}]]
        assert seen[0].session is caller.member
        assert seen[0].progress is None

    def test_progress_until_the_end(self, world: WampWorld) -> None:
        seen: list[Invocation] = []
        waiting: Deferred[None] = Deferred()
        serve(world, "rpcbroker.slow", waiting, seen)
        caller = world.join()
        request = caller.call("rpcbroker.slow", receive_progress=True)
        progress = seen[0].progress
        assert progress is not None
        progress(Payload(["half"]))
        assert caller.told() == [[T.RESULT, request, {"progress": True}, ["half"]]]
        waiting.callback(None)
        progress(Payload(["more"]))
        assert caller.told() == [[T.RESULT, request, {}, [[]]]]

    def test_errors_are_told_in_words(self, world: WampWorld) -> None:
        serve(world, "rpcbroker.bad", InvalidRequest("It has no name", hint="Give it one."))
        caller = world.join()
        assert caller.say(T.CALL, 9, {}, "rpcbroker.bad") == [
            [T.ERROR, T.CALL, 9, {}, "wamp.error.invalid_argument", ["It has no name"], {"hint": "Give it one."}]
        ]

    def test_a_fault_of_ours_is_told_as_one(self, world: WampWorld, no_dropped_failures: list[str]) -> None:
        serve(world, "rpcbroker.broken", ZeroDivisionError("secret"))
        caller = world.join()
        request = caller.call("rpcbroker.broken")
        assert "secret" not in str(caller.sent)
        assert error_of(caller, request) == "rpcbroker.error.internal"
        assert len(no_dropped_failures) == 1
        no_dropped_failures.clear()

    def test_a_caller_that_leaves_cancels_it(self, world: WampWorld) -> None:
        ended: list[str] = []
        serve(world, "rpcbroker.slow", Deferred(lambda _: ended.append("cancelled")))
        caller = world.join()
        caller.call("rpcbroker.slow")
        caller.session.lost()
        assert ended == ["cancelled"]
        assert caller.told() == []

    def test_calls_are_counted_by_the_rates_of_requests(self, world: WampWorld) -> None:
        world.rest.who.reconfigure(Settings(http=HttpSettings(user_rate=Rate(((2, 1.0),)))).http)
        caller = world.join()
        assert [caller.result("wamp.session.count") for _ in range(3)] == [
            [1],
            [1],
            ["rpcbroker.error.too_many_requests"],
        ]
        assert caller.closed is None


class TestLeaving:
    def test_each_caller_of_a_callee_that_leaves_has_one_error(self) -> None:
        world = WampWorld(wamp={"max_calls": 10_000})
        callee, callers = world.join(), [world.join() for _ in range(10)]
        callee.register(ADD)
        requests = [[caller.call(ADD) for _ in range(1000)] for caller in callers]
        for caller in callers:
            caller.sent.clear()
        callee.session.lost()
        for caller, made in zip(callers, requests, strict=True):
            told = caller.told()
            assert [message[2] for message in told] == made
            assert {(message[0], message[4]) for message in told} == {(T.ERROR, "wamp.error.canceled")}
        assert callers[0].result(ADD) == ["wamp.error.no_such_procedure"]

    @pytest.mark.parametrize("deaf", [False, True])
    def test_what_comes_for_a_caller_that_has_left_is_dropped(self, world: WampWorld, deaf: bool) -> None:
        callee, caller, other = world.join(**DEAF if deaf else {}), world.join(), world.join()
        callee.register(ADD)
        caller.call(ADD, timeout=1000)
        invocation = called(callee)
        caller.session.lost()
        expected = [] if deaf else [[T.INTERRUPT, invocation, {"mode": "killnowait", "reason": "wamp.error.canceled"}]]
        assert callee.told() == expected
        assert callee.say(T.YIELD, invocation, {}, ["late"]) == []
        world.pass_time(2)
        assert caller.told() == other.told() == callee.told() == []
        request = other.call(ADD)
        callee.say(T.YIELD, called(callee), {}, [1])
        assert other.told() == [[T.RESULT, request, {}, [1]]]

    def test_both_at_once(self, world: WampWorld) -> None:
        peer = world.join()
        peer.register(ADD)
        peer.call(ADD)
        peer.session.lost()
        assert world.router.open_sessions == 0


class TestLimits:
    def test_one_registration_too_many(self) -> None:
        world = WampWorld(wamp={"max_registrations": 10})
        peer = world.join()
        for number in range(10):
            peer.register(f"com.example.p{number}")
        uri, (sentence,) = peer.request(T.REGISTER, {}, "com.example.more")
        assert (uri, "10" in sentence) == ("rpcbroker.error.too_many_registrations", True)
        assert world.join().register("com.example.more")

    def test_one_call_too_many_of_a_caller_and_for_a_callee(self) -> None:
        world = WampWorld(wamp={"max_calls": 5})
        callee, caller, other = world.join(), world.join(), world.join()
        callee.register(ADD)
        for _ in range(5):
            caller.call(ADD)
        assert caller.result("wamp.session.count") == ["rpcbroker.error.too_many_calls"]
        assert other.result(ADD) == ["rpcbroker.error.too_many_requests"]
        invocation = callee.told()[0][1]
        callee.say(T.YIELD, invocation, {}, [])
        caller.sent.clear()
        assert caller.result("wamp.session.count") == [3]
        other.call(ADD)
        assert other.told() == []

    def test_a_callee_that_is_busy_is_passed_over(self) -> None:
        world = WampWorld(wamp={"max_calls": 2})
        callees = [world.join(), world.join()]
        for callee in callees:
            callee.register(ADD, invoke="roundrobin")
        callers = [world.join() for _ in range(4)]
        callers[0].call(ADD)
        callers[1].call(ADD)
        (first,) = callees[0].told()
        callees[0].say(T.YIELD, first[1], {}, [])
        callers[2].call(ADD)
        callers[2].call(ADD)
        callers[3].call(ADD)
        assert len(callees[0].told()) + len(callees[1].told()) == 4
