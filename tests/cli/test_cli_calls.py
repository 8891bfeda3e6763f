"""Calls that are kept, named, told of and cancelled, on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fake_broker import URL, FakeBroker, Shell, error, json_answer
from fakes import ADMIN, EPOCH_MS, OTHER_TENANT, device, error_of, result_of
from real_shell import RealShell
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.cancel import what_of_the_device
from rpcbroker.cli.following import PATIENCE, failure_of, followed
from rpcbroker.cli.login_file import KeyLogin
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.core.calls import CallRequest, CallState, Step
from rpcbroker.core.errors import Reason
from rpcbroker.schema.calls import CancellationJSON, RpcContentJSON, RpcJSON, RpcRequestJSON, TimelineJSON
from rpcbroker.schema.common import EntityId

ID = "6d2ab2c4-3f5e-4a53-9c2b-0d5a9f0e7a11"
UNKNOWN = "There is no call with the id"


@pytest.fixture
def admin(real: RealShell) -> RealShell:
    return real.as_admin()


# -- explain


def test_explain_tells_what_became_of_a_call(admin: RealShell) -> None:
    admin.rest.link(reply=b'{"error":"hot"}')
    admin.says("call", "device-100", "getValue", "--request-id", ID)
    told = admin.says("explain", ID).splitlines()
    assert told[0].startswith("getValue was asked of device-100 at 2023-11-1")
    assert "It went out over FAKE at" in told[0]
    assert told[1].startswith("Hint: The call itself went well")
    assert len(told) == 2


def test_explain_json_is_the_brokers_time_line(admin: RealShell) -> None:
    admin.rest.link(reply=b"7")
    admin.says("call", "device-100", "getValue", "--request-id", ID)
    timeline = json.loads(admin.says("explain", ID, "--json"))
    assert (timeline["rpcId"], timeline["state"], timeline["deviceError"]) == (ID, "SUCCESSFUL", False)
    assert [step["step"] for step in timeline["steps"]][:2] == ["accepted", "authorised"]


def test_explain_says_why_a_call_failed_and_what_to_do(admin: RealShell) -> None:
    failed = admin.run("call", "device-100", "getValue", "--connect-timeout", "0", "--request-id", ID)
    assert failed.exit_code == ExitCode.DEVICE_OFFLINE
    assert failed.stderr.endswith(f"\nMore: rpcbroker explain {ID}\n")
    told = admin.says("explain", ID).splitlines()
    assert "It was refused: The device has never connected." in told[0]
    assert told[1] == "Reason: NEVER_CONNECTED"
    assert told[2].startswith("Hint: Check the device's access token")
    assert "rpcbroker device show device-100" in told[2]


@pytest.mark.parametrize("command", ["explain", "cancel"])
def test_an_unknown_call_is_exit_code_4_and_says_which_are_kept(admin: RealShell, command: str) -> None:
    result = admin.run(command, ID)
    assert (result.exit_code, result.stdout) == (ExitCode.NOT_FOUND, "")
    assert result.stderr.startswith(f"Error: {UNKNOWN} '{ID}'.\nHint: Of calls that are not persistent only the last")
    assert admin.run(command, "no-uuid").exit_code == ExitCode.USAGE


def test_a_call_of_another_tenant_is_unknown(admin: RealShell) -> None:
    theirs = device(101, tenant=OTHER_TENANT)
    admin.rest.add(theirs)
    request = CallRequest(method="x", request_id=UUID(ID), once=True)
    waiting = admin.rest.call(request, replace(ADMIN, tenant_id=OTHER_TENANT), theirs.id)
    assert admin.run("explain", ID).exit_code == ExitCode.NOT_FOUND
    assert admin.run("cancel", ID).exit_code == ExitCode.NOT_FOUND
    assert not waiting.called
    waiting.addErrback(lambda _: None)
    waiting.cancel()


# -- calls


def test_calls_are_a_table_whose_last_line_is_the_newest(admin: RealShell) -> None:
    admin.run("call", "device-100", "setValue", "1", "--connect-timeout", "0")
    admin.rest.clock.advance(61)
    admin.rest.link(reply=b'{"error":"hot"}')
    admin.says("call", "device-100", "getValue", "--request-id", ID)
    admin.says("call", "device-100", "reboot", "--persistent", "--oneway")
    lines = admin.says("calls").splitlines()
    assert lines[0].split() == ["TIME", "(UTC)", "DEVICE", "METHOD", "KIND", "STATE", "TOOK", "ID"]
    assert lines[1].split()[1:8] == [
        "22:13:20",
        "device-100",
        "setValue",
        "two-way",
        "FAILED",
        "NEVER_CONNECTED",
        "less",
    ]
    assert lines[2].split()[1:7] == ["22:14:21", "device-100", "getValue", "two-way", "SUCCESSFUL", "device"]
    assert lines[2].split()[-1] == ID
    assert lines[3].split()[2:8] == ["device-100", "reboot", "one-way", "persistent", "DELIVERED", "less"]


def test_calls_are_chosen_by_device_state_method_and_time(admin: RealShell) -> None:
    def methods(*words: str) -> list[str]:
        return [each["method"] for each in json.loads(admin.says("calls", "--json", *words))]

    admin.rest.link(reply=b"7")
    admin.says("call", "device-100", "b")
    admin.says("call", "device-100", "a", "--persistent")
    admin.says("device", "add", "lamp")
    admin.run("call", "lamp", "c", "--connect-timeout", "0")
    assert sorted(methods()) == ["a", "b", "c"]
    assert methods("--device", "lamp") == ["c"]
    assert methods("--state", "failed") == ["c"]
    assert methods("--method", "b") == ["b"]
    assert sorted(methods("--since", "36500d")) == ["a", "b", "c"]
    assert methods("--since", "1h") == [], "the test's clock stands in 2023"
    assert admin.run("calls", "--device", "nothing").exit_code == ExitCode.NOT_FOUND
    assert admin.run("calls", "--state", "GONE").exit_code == ExitCode.USAGE
    assert admin.run("calls", "--method", "x" * 256).exit_code == ExitCode.USAGE


def test_only_so_many_calls_are_shown_and_that_there_are_more_is_said(admin: RealShell) -> None:
    assert "There are no such calls." in admin.run("calls").stderr
    for _ in range(3):
        admin.run("call", "device-100", "x", "--connect-timeout", "0")
    result = admin.run("calls", "--limit", "2")
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == "These are the newest 2 of 3; --limit N shows more.\n"


# -- cancel


def test_cancel_ends_a_call_and_says_what_the_device_knows(admin: RealShell) -> None:
    link = admin.rest.link(step=Step.ACKNOWLEDGED)
    waiting = admin.rest.call(CallRequest(method="x", request_id=UUID(ID), once=True))
    result = admin.run("cancel", ID)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "Cancelled. It had gone to the device, which was not told: it may do it still, and its reply will be dropped.\n"
    )
    assert error_of(waiting).reason is Reason.CANCELLED
    assert link.cancelled == []
    again = admin.run("cancel", ID)
    assert (again.exit_code, again.stderr) == (
        ExitCode.ERROR,
        f"Error: The call had ended before.\nHint: How it ended: rpcbroker explain {ID}\n",
    )


@pytest.mark.parametrize(
    ("delivered", "told", "words"),
    [
        (False, False, "It had not gone to the device, and will not."),
        (True, True, "which was told that nobody waits for it any more."),
        (True, False, "it may do it still"),
    ],
)
def test_what_is_said_of_the_device(delivered: bool, told: bool, words: str) -> None:
    assert words in what_of_the_device(CancellationJSON(UUID(ID), True, delivered, told))


# -- call


def test_a_persistent_call_prints_its_id_and_how_to_ask(admin: RealShell) -> None:
    result = admin.run("call", "device-100", "x", "--persistent", "--request-id", ID, "--timeout", "1h")
    assert (result.exit_code, result.stdout) == (0, f"{ID}\n")
    assert result.stderr == f"Kept. What became of it: rpcbroker explain {ID}\n"
    assert "It has not gone to the device yet" in admin.says("explain", ID)
    assert admin.run("cancel", ID).stderr == "Cancelled. It had not gone to the device, and will not.\n"


def test_a_persistent_call_that_is_waited_for_prints_the_reply(admin: RealShell) -> None:
    admin.rest.link(reply=b'{"7":true}')
    result = admin.run("call", "device-100", "x", "--persistent", "--wait", "--request-id", ID)
    assert (result.exit_code, result.stdout) == (0, '{"7":true}\n')
    assert result.stderr == f"Kept as {ID}; waiting for its end.\n"
    assert admin.says("explain", ID).endswith('\nReply: {"7":true}\n')


def test_a_one_way_persistent_call_is_waited_for_until_it_is_delivered(admin: RealShell) -> None:
    admin.rest.link()
    result = admin.run("call", "device-100", "x", "--persistent", "--wait", "--oneway")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("\nSent.\n")


def test_all_options_of_a_call_are_sent_as_the_wire_has_them(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    words = ("--persistent", "--request-id", ID, "--retries", "0", "--strategy", "on-response")
    shell.broker.on_call = lambda _path, _body: json_answer(200, {"rpcId": ID})
    assert shell.run("call", "lamp", "x", *words).exit_code == 0
    assert shell.broker.requests[-1][2] == {
        "method": "x",
        "persistent": True,
        "requestUUID": ID,
        "retries": 0,
        "submitStrategy": "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE",
    }


@pytest.mark.parametrize(
    "words",
    [
        ("--wait",),
        ("--progress", "--persistent"),
        ("--progress", "--oneway"),
        ("--request-id", "x"),
        ("--retries", "-1"),
        ("--strategy", "BURSTS"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(shell: Shell, words: tuple[str, ...]) -> None:
    shell.log_in()
    assert (shell.run("call", "lamp", "x", *words).exit_code, shell.broker.requests) == (ExitCode.USAGE, [])


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        (error(408, 2, "m", reason="NO_REPLY"), True),
        (error(429, 33, "m", reason="QUEUE_FULL"), True),
        (error(404, 32, "Device with requested id wasn't found!"), False),
        (error(400, 31, "m"), False),
    ],
)
def test_who_tells_more_is_said_of_calls_that_were_taken(shell: Shell, answer: Answer, more: bool) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    shell.broker.on_call = lambda _path, _body: answer._replace(headers={"x-rpc-id": ID})
    assert (f"More: rpcbroker explain {ID}\n" in shell.run("call", "lamp", "x").stderr) is more


# -- progress


class Streaming:
    """A broker whose calls are answered with these pieces of a stream."""

    def __init__(self, broker: FakeBroker, *pieces: bytes) -> None:
        self.broker = broker
        self.pieces = pieces

    def __call__(self, _reactor: Any, *, events: Any, **_: Any) -> Any:
        def send(method: str, url: str, **more: Any) -> Deferred[Answer]:
            if "/rpc/" not in url:
                return self.broker(method, url, **more)
            for piece in self.pieces:
                events(piece)
            return succeed(Answer(200, {"content-type": "text/event-stream", "x-rpc-id": ID}, b""))

        return send


@pytest.fixture
def streaming(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Any:
    shell.log_in()
    shell.broker.add("lamp")

    def call(*pieces: bytes) -> Any:
        monkeypatch.setattr("rpcbroker.cli.session.sender", Streaming(shell.broker, *pieces))
        return shell.run("call", "lamp", "x", "--progress")

    return call


def test_progress_goes_to_stderr_and_the_reply_to_stdout(streaming: Any) -> None:
    result = streaming(b"event: progress\nda", b'ta: {"left":1}\n\n:\n\nevent: result\n', b'data: {"left": 0}\n\n')
    assert (result.exit_code, result.stderr) == (0, 'Progress: {"left":1}\n')
    assert result.stdout == '{"left": 0}\n'


def test_an_error_after_progress_is_an_error_like_any_other(streaming: Any) -> None:
    broken = error(408, 2, "The device did not reply in time", reason="NO_REPLY", hint="Wait.").body
    result = streaming(b"event: progress\ndata: 1\n\n", b"event: error\ndata: " + broken + b"\n\n")
    assert (result.exit_code, result.stdout) == (ExitCode.NO_REPLY, "")
    assert result.stderr == (
        "Progress: 1\nError: The device did not reply in time.\nReason: NO_REPLY\nHint: Wait.\n"
        f"More: rpcbroker explain {ID}\n"
    )


@pytest.mark.parametrize("pieces", [(), (b"event: result\ndata: 1\n",), (b"event: error\ndata: x\n\n",)])
def test_a_stream_without_a_readable_end_is_an_error(streaming: Any, pieces: tuple[bytes, ...]) -> None:
    result = streaming(*pieces)
    assert (result.exit_code, result.stdout) == (ExitCode.ERROR, "")


# -- following


def rpc(status: CallState, *, oneway: bool = False) -> Answer:
    at = EntityId("TENANT", UUID(int=1))
    body = RpcContentJSON("x", "null")
    request = RpcRequestJSON(UUID(ID), at, at, oneway, EPOCH_MS, body, True, None)
    return json_answer(200, RpcJSON(EntityId("RPC", UUID(ID)), EPOCH_MS, at, at, EPOCH_MS, request, None, status, None))


class Follower:
    """Follows a call through these answers, the last of which comes for ever."""

    def __init__(self, *answers: Answer | Stop) -> None:
        self.clock = Clock()
        self.left = list(answers)
        self.asked = 0
        rest = Rest(self._send, KeyLogin(url=URL, key="key"))
        self.result = Deferred.fromCoroutine(followed(rest, UUID(ID), self.clock))

    def _send(self, *_: Any, **__: Any) -> Deferred[Answer]:
        self.asked += 1
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return fail(answer) if isinstance(answer, Stop) else succeed(answer)


@pytest.mark.parametrize("state", [CallState.QUEUED, CallState.SENT, CallState.DELIVERED, CallState.TIMEOUT])
def test_a_call_is_followed_as_long_as_it_goes_on(state: CallState) -> None:
    follower = Follower(rpc(state), rpc(state), rpc(CallState.EXPIRED))
    assert follower.asked == 1
    follower.clock.pump([0.1, 0.15])
    assert result_of(follower.result).status is CallState.EXPIRED
    assert not follower.clock.getDelayedCalls()


def test_a_one_way_call_has_ended_when_it_is_delivered() -> None:
    assert result_of(Follower(rpc(CallState.DELIVERED, oneway=True)).result).status is CallState.DELIVERED


def test_a_call_that_takes_long_is_asked_for_every_two_seconds() -> None:
    follower = Follower(rpc(CallState.QUEUED))
    follower.clock.pump([0.5] * 7_200)
    assert 1790 < follower.asked < 1820
    follower.result.addErrback(lambda _: None)
    follower.result.cancel()


@pytest.mark.parametrize("trouble", [Stop("cannot be reached"), error(503, 2, "m"), error(429, 33, "m")])
def test_a_broker_that_is_started_anew_or_busy_is_asked_again(trouble: Answer | Stop) -> None:
    follower = Follower(rpc(CallState.QUEUED), *[trouble] * 100, rpc(CallState.SUCCESSFUL))
    follower.clock.pump([1.0] * 300)
    assert result_of(follower.result).status is CallState.SUCCESSFUL


def test_a_broker_that_stays_away_is_an_error() -> None:
    follower = Follower(Stop("cannot be reached"))
    follower.clock.pump([1.0] * int(PATIENCE - 10))
    assert not follower.result.called
    follower.clock.pump([1.0] * 20)
    assert str(error_of(follower.result).message) == "cannot be reached"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error(404, 32, "m"), ExitCode.NOT_FOUND),
        (error(403, 20, "m"), ExitCode.NOT_LOGGED_IN),
        (Stop("ended", ExitCode.NOT_LOGGED_IN), ExitCode.NOT_LOGGED_IN),
        (error(500, 2, "m"), ExitCode.ERROR),
    ],
)
def test_what_ends_following_at_once(answer: Answer | Stop, code: ExitCode) -> None:
    assert error_of(Follower(answer).result).exit_code == code


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.NO_SUBSCRIPTION, ExitCode.DEVICE_OFFLINE),
        (Reason.NEVER_CONNECTED, ExitCode.DEVICE_OFFLINE),
        (Reason.DISCONNECTED, ExitCode.DEVICE_OFFLINE),
        (Reason.NO_REPLY, ExitCode.NO_REPLY),
        (Reason.NO_ACK, ExitCode.NO_REPLY),
        (Reason.EXPIRED, ExitCode.NO_REPLY),
        (Reason.CANCELLED, ExitCode.ERROR),
        (None, ExitCode.ERROR),
    ],
)
def test_exit_codes_of_persistent_calls_are_those_of_others(
    admin: RealShell, reason: Reason | None, code: ExitCode
) -> None:
    admin.run("call", "device-100", "x", "--connect-timeout", "0", "--request-id", ID)
    told: dict[str, Any] = json.loads(admin.says("explain", ID, "--json")) | {"reason": reason}
    timeline = Answer(200, {}, json.dumps(told).encode()).read_as(TimelineJSON)
    stop = failure_of(timeline)
    assert (stop.exit_code, stop.reason) == (code, reason)
    assert stop.more == f"rpcbroker explain {ID}"
