"""`rpcbroker bulk`: begin, follow, look again, abort."""

from __future__ import annotations

import re
from dataclasses import replace
from uuid import UUID

import click.testing
import pytest
from fakes import FakeLink, device
from real_shell import RealShell
from rest import BASE
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rpcbroker.cli import bulk
from rpcbroker.cli.login_file import Login
from rpcbroker.cli.rest import Rest

ID = "b0b0b0b0-0000-4000-8000-000000000001"


class Fleet:
    """Three lamps behind a shell."""

    def __init__(self, shell: RealShell) -> None:
        self.shell = shell
        self.links: list[FakeLink] = []

    def lamps(self, *replies: bytes | None) -> None:
        for number, reply in enumerate(replies):
            one = device(200 + number, type="lamp")
            self.shell.rest.add(one)
            self.links.append(self.shell.rest.link(one, reply=reply))

    def bulk(self, *words: str) -> click.testing.Result:
        return self.shell.run("bulk", *words)

    def called(self) -> list[int]:
        return [len(link.calls) for link in self.links]


@pytest.fixture
def fleet(real: RealShell) -> Fleet:
    return Fleet(real.as_admin())


def test_devices_of_a_type_are_called_and_all_is_well(fleet: Fleet) -> None:
    fleet.lamps(b"1", b"2")
    done = fleet.bulk("update", "version=1.4.2", "--type", "lamp", "--id", ID, "--rate", "50:1", "--canary", "1")
    assert (done.exit_code, done.stdout) == (0, "DONE: 2 devices, 2 successful\n")
    assert f"rpcbroker bulk status {ID}" in done.stderr
    assert fleet.links[0].calls[0].params == b'{"version":"1.4.2"}'
    again = fleet.bulk("update", "version=1.4.2", "--type", "lamp", "--id", ID, "--rate", "50:1", "--canary", "1")
    assert (again.exit_code, fleet.called()) == (0, [1, 1]), "the same id is the same bulk"


def test_what_did_not_succeed_is_named(fleet: Fleet) -> None:
    fleet.lamps(b"1", b'{"error":"no space"}')
    done = fleet.bulk("--type", "lamp", "update", "--id", ID)
    assert done.exit_code == 1
    first, _, *rows = done.stdout.splitlines()
    assert first == "DONE: 2 devices, 1 successful, 1 failed"
    assert [row.split()[:3] for row in rows] == [["device-201", "FAILED", "DEVICE_ERROR"]]
    assert "Error: 1 of 2 devices did not succeed." in done.stderr
    assert fleet.bulk("status", ID).stdout == done.stdout


def test_of_many_failures_only_some_are_named(fleet: Fleet) -> None:
    fleet.lamps(*[b'{"error":1}'] * 25)
    done = fleet.bulk("update", "--type", "lamp", "--id", ID)
    assert len(done.stdout.splitlines()) == 22
    assert "... and 5 more" in done.stderr


def test_devices_by_name_are_called_one_way(fleet: Fleet) -> None:
    fleet.lamps(None, None)
    done = fleet.bulk("reboot", "--device", "device-201", "--oneway", "--timeout", "7s", "--connect-timeout", "0")
    assert done.exit_code == 0, done.output
    assert fleet.called() == [0, 1]
    assert fleet.links[1].calls[0].oneway


def test_devices_of_a_customer(fleet: Fleet) -> None:
    rest = fleet.shell.rest
    shop = rest.add_customer("Shop")
    one = replace(device(300), customer_id=shop.id)
    rest.add(one)
    link = rest.link(one, reply=b"1")
    assert fleet.bulk("reboot", "--customer", "Shop").exit_code == 0
    assert len(link.calls) == 1


def test_without_waiting_the_id_is_printed_and_it_can_be_aborted(fleet: Fleet) -> None:
    fleet.lamps(None, None, None)
    begun = fleet.bulk("update", "--type", "lamp", "--no-wait", "--concurrency", "1", "--persistent")
    bulk_id = begun.stdout.strip()
    assert str(UUID(bulk_id)) == bulk_id
    aborted = fleet.bulk("abort", bulk_id)
    assert (aborted.exit_code, aborted.stdout) == (0, "")
    assert aborted.stderr == "ABORTED (by Admin@example.org): 3 devices, 3 running\n"
    assert fleet.bulk("status", bulk_id).exit_code == 0


def test_an_aborted_bulk_is_no_success(fleet: Fleet) -> None:
    fleet.lamps(b'{"error":1}', b"1", b"1")
    done = fleet.bulk("update", "--type", "lamp", "--canary", "1")
    assert done.exit_code == 1
    assert done.stdout.startswith(
        "ABORTED (the canary device-200 did not succeed: DEVICE_ERROR): 3 devices, 1 failed, 2 aborted"
    )
    assert "Error: 3 of 3 devices did not succeed." in done.stderr


def test_bulks_are_listed(fleet: Fleet) -> None:
    assert "There are no bulks" in fleet.bulk("list").stderr
    fleet.lamps(b"1")
    fleet.bulk("update", "--type", "lamp", "--id", ID)
    _, row = fleet.bulk("list").stdout.splitlines()
    assert row.split()[:5] == ["update", "DONE", "1", "1", "Admin@example.org"]
    assert row.endswith(ID)
    assert f'"bulkId": "{ID}"' in fleet.bulk("list", "--json").stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("update",), 2, "Say which devices"),
        (("update", "--type", "a", "--device", "b"), 2, "Say which devices"),
        (("update", "--type", "lamp", "--rate", "fast"), 1, "rate must be a rate"),
        (("update", "--type", "lamp", "--concurrency", "0"), 2, "0 is not in the range"),
        (("update", "--type", "lamp", "--canary", "-1"), 2, "-1 is not in the range"),
        (("update", "--type", "lamp", "--abort-after", "0"), 2, "0 is not in the range"),
        (("update", "--type", "none"), 1, "There are no such devices"),
        (("update", "--device", "nobody"), 4, "There is no device named 'nobody'"),
        (("status", str(UUID(int=5))), 4, "is not found"),
        (("abort", "x"), 2, "not a valid UUID"),
        (("update", "a", "--type", "lamp"), 2, "a"),
    ],
)
def test_what_is_wrong_is_said(fleet: Fleet, words: tuple[str, ...], code: int, says: str) -> None:
    fleet.lamps(b"1")
    done = fleet.bulk(*words)
    assert done.exit_code == code, done.output
    assert says in done.stderr
    assert fleet.called() == [0]


def test_the_help_names_methods_and_commands(fleet: Fleet) -> None:
    text = fleet.bulk("--help").stdout
    assert "METHOD [PARAMS]... | COMMAND" in text
    for command in ("start", "status", "abort", "list"):
        assert f"\n  {command} " in text
    assert "--canary" in fleet.bulk("start", "--help").stdout


@pytest.mark.parametrize("terminal", [False, True])
def test_who_follows_looks_until_it_has_ended(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    fleet.lamps(None, None)
    fleet.bulk("update", "--type", "lamp", "--id", ID, "--no-wait")
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    login = Login(url=BASE, username="", token=fleet.shell.rest.token, refresh_token="")
    rest = Rest(fleet.shell.send, login)
    clock = Clock()
    following = Deferred.fromCoroutine(bulk._follow(rest, UUID(ID), clock))
    for number in (0, 1):
        clock.pump([0.5] * 12)
        assert not following.called
        fleet.links[number].session.receive(fleet.links[number].calls[0].wire_id, b'{"error":1}')
    clock.pump([0.5] * 12)
    assert following.called
    told = capsys.readouterr().err
    plain = re.sub(r"\x1b\[[0-9;?]*\w", "", told)
    assert ("2/2 2 failed" if terminal else "1 of 2 devices, 1 failed") in plain
