"""A board that answers all widgets, and the shell that is in it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from rpcbroker.simulator.device import Lengthy
from rpcbroker.simulator.shell import MAX_COMMAND, FakeShell
from rpcbroker.simulator.widgets import MAX_FAILING, WidgetBoard


def board(*pins: int) -> WidgetBoard:
    return WidgetBoard(pins or (7,), seconds=Clock().seconds)


@pytest.mark.parametrize("value", [True, 42, "text", None, {"a": [1]}])
def test_value_and_state_are_two_things(value: Any) -> None:
    widgets = board()
    assert widgets.answer("setState", value) == value
    assert widgets.answer("getState", None) == value
    assert widgets.answer("getValue", None) == 0
    widgets.answer("setValue", 7)
    assert (widgets.answer("getValue", None), widgets.answer("getState", None)) == (7, value)


def test_it_is_well_and_takes_commands() -> None:
    assert board().answer("checkStatus", None) is True
    assert board().answer("rpcCommand", {"a": 1}) == {"ok": True, "params": {"a": 1}}


def test_what_a_gpio_board_answers_it_answers_too() -> None:
    assert board(7, 11).answer("getGpioStatus", "{}") == {"7": False, "11": False}
    assert isinstance(board().answer("countDown", {"seconds": 3}), Lengthy)
    assert board().answer("fly", None) == {"error": "unknown method 'fly'"}


def test_it_reports_value_state_and_pins_but_nothing_that_is_null() -> None:
    widgets = board(7, 11)
    assert widgets.values() == {"value": 0, "state": 0, "7": False, "11": False}
    widgets.answer("setGpioStatus", {"pin": 11, "enabled": True})
    widgets.answer("setState", None)
    assert widgets.values() == {"value": 0, "7": False, "11": True}


def test_methods_fail_when_they_are_told_to_until_they_are_healed() -> None:
    widgets = board()
    assert widgets.answer("fail", ["setValue", "fail", "fly"]) == ["fly", "setValue"]
    assert widgets.answer("setValue", 1) == {"error": "setValue fails, as it was told to"}
    assert widgets.answer("getValue", None) == 0
    assert widgets.answer("fail", []) == []
    assert widgets.answer("setValue", 1) == 1


@pytest.mark.parametrize("params", [None, "setValue", [1], {"a": 1}, ["x"] * (MAX_FAILING + 1)])
def test_only_a_short_list_of_names_can_be_told_to_fail(params: Any) -> None:
    assert "params must be" in board().answer("fail", params)["error"]


class Session:
    """A shell, and the time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.shell = FakeShell(self.clock.seconds)

    def run(self, command: str) -> list[dict[str, str]]:
        """What it writes at once, in the directory where the session is."""
        assert self.shell.send({"command": command, "cwd": self.shell.cwd}) == {"ok": True}
        status = self.shell.status()
        assert status["done"]
        data: list[dict[str, str]] = status["data"]
        return data


def test_a_shell_says_what_a_remote_shell_asks_first() -> None:
    assert set(Session().shell.info()) == {"platform", "release", "cwd"}


def test_commands_write_where_commands_do() -> None:
    session = Session()
    assert session.run("echo  hello   you ") == [{"stdout": "hello   you\n"}]
    assert session.run("fail") == [{"stderr": "it failed, as it was told to\n"}]
    assert session.run("rm -rf /") == [{"stderr": "rm: there is no such command\n"}]
    assert "count N" in session.run("help")[0]["stdout"]
    assert session.run("  ") == []


def test_a_shell_knows_where_it_is() -> None:
    session = Session()
    assert session.run("cd home/pi") == []
    assert session.shell.status() == {"data": [], "done": True, "cwd": "/home/pi"}
    assert session.run("pwd") == [{"stdout": "/home/pi\n"}]
    assert session.run("ls") == [{"stdout": "notes.txt\n"}]
    assert session.run("cat notes.txt") == [{"stdout": "Pin 7 is the lamp.\n"}]
    assert session.run("cat ../../etc/hostname") == [{"stdout": "simulated\n"}]
    assert session.run("cat nothing") == [{"stderr": "cat: nothing: there is no such file\n"}]
    assert session.run("cd nowhere") == [{"stderr": "cd: nowhere: there is no such directory\n"}]
    assert session.run("cd ..") == []
    assert session.run("ls") == [{"stdout": "pi\n"}]
    session.run("exit")
    assert session.shell.cwd == "/"


def test_a_command_begins_where_the_widget_says_if_that_exists() -> None:
    shell = Session().shell
    shell.send({"command": "pwd", "cwd": "/etc"})
    assert shell.status()["data"] == [{"stdout": "/etc\n"}]
    for elsewhere in ("/sys", ["/home"], None):
        shell.send({"command": "pwd", "cwd": elsewhere})
        assert shell.status()["data"] == [{"stdout": "/etc\n"}]


def test_what_takes_long_comes_bit_by_bit() -> None:
    session = Session()
    session.shell.send({"command": "count 3", "cwd": "/"})
    assert session.shell.status() == {"data": [], "done": False, "cwd": "/"}
    assert session.shell.send({"command": "pwd", "cwd": "/"}) == {"error": "a command is running"}
    session.clock.advance(2)
    assert session.shell.status() == {"data": [{"stdout": "1\n"}, {"stdout": "2\n"}], "done": False, "cwd": "/"}
    session.clock.advance(1)
    assert session.shell.status() == {"data": [{"stdout": "3\n"}], "done": True, "cwd": "/"}


def test_what_takes_long_can_be_ended() -> None:
    session = Session()
    assert session.shell.terminate() == {"ok": False, "error": "no command is running"}
    session.shell.send({"command": "count 3", "cwd": "/"})
    assert session.shell.terminate() == {"ok": True}
    assert session.shell.status() == {"data": [{"stderr": "terminated\n"}], "done": True, "cwd": "/"}


@pytest.mark.parametrize("words", ["", "0", "-1", "x", "3601", "9" * 5000, "\N{SUPERSCRIPT TWO}"])
def test_it_counts_neither_for_ever_nor_what_is_no_number(words: str) -> None:
    assert Session().run(f"count {words}"[:MAX_COMMAND]) == [{"stderr": "count: give a number from 1 to 3600\n"}]


@pytest.mark.parametrize("params", [None, "ls", [], {}, {"command": 1}, {"command": "x" * (MAX_COMMAND + 1)}])
def test_what_is_no_command_is_an_error(params: Any) -> None:
    assert "params must be" in Session().shell.send(params)["error"]
