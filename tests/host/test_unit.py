"""`conf/rpcbroker.service` and `.socket`: what the program relies on, and what it is started with."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from twisted.python import usage
from twisted.scripts.twistd import ServerOptions

from rpcbroker.cli.main import cli
from rpcbroker.config import parse_duration
from rpcbroker.core.settings import Settings

CONF = Path(__file__).parent.parent.parent / "conf"
PROGRAMS = "/opt/rpcbroker/bin/"
CONFIG = "/etc/rpcbroker/rpcbroker.toml"


def directives(name: str) -> dict[str, list[str]]:
    """ "Section.Key" -> its values, in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (CONF / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


UNIT = directives("rpcbroker.service")


def seconds(key: str) -> float:
    (text,) = UNIT[f"Service.{key}"]
    return parse_duration(text.replace("min", "m"))


def test_it_is_started_in_the_foreground_with_options_that_there_are() -> None:
    (line,) = UNIT["Service.ExecStart"]
    program, *arguments = shlex.split(line.replace(CONFIG, str(CONF / "rpcbroker.toml")))
    assert program == f"{PROGRAMS}twistd"
    options = ServerOptions()
    options.parseOptions(arguments)
    assert options.subCommand == "rpcbroker"
    assert options["nodaemon"]
    assert not options["pidfile"]
    assert options.subOptions["configuration"].settings == Settings()


def test_an_option_that_there_is_not_would_be_found() -> None:
    with pytest.raises(usage.UsageError):
        ServerOptions().parseOptions(["-n", "rpcbroker", "--log-yaml"])


def test_a_reload_checks_the_file_that_it_is_started_with_and_then_hangs_up() -> None:
    check, hang_up = UNIT["Service.ExecReload"]
    program, *arguments = shlex.split(check)
    assert (program, arguments[-1]) == (f"{PROGRAMS}rpcbroker", CONFIG)
    checked = CliRunner().invoke(cli, [*arguments[:-1], str(CONF / "rpcbroker.toml")])
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert hang_up == "/bin/kill -HUP $MAINPID"


def test_it_notifies_and_is_watched() -> None:
    assert UNIT["Service.Type"] == ["notify"]
    assert seconds("WatchdogSec") >= 10, "a small machine may be busy elsewhere for a while"


def test_it_has_time_to_end_and_its_end_is_a_success() -> None:
    assert seconds("TimeoutStopSec") > Settings().server.drain + 10
    assert UNIT["Service.SuccessExitStatus"] == ["143"]
    assert UNIT["Service.Restart"] == ["on-failure"]


def test_its_state_is_where_the_program_looks_for_it_and_nobody_else_s() -> None:
    assert UNIT["Service.StateDirectory"] == ["rpcbroker"], "the program reads $STATE_DIRECTORY"
    assert UNIT["Service.StateDirectoryMode"] == ["0700"]
    assert UNIT["Service.DynamicUser"] == ["yes"]


def test_every_connection_may_have_its_file() -> None:
    (limit,) = UNIT["Service.LimitNOFILE"]
    assert int(limit) > 2 * Settings().http.max_connections


def test_the_sandbox_leaves_what_the_program_needs() -> None:
    (families,) = UNIT["Service.RestrictAddressFamilies"]
    assert set(families.split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}, "AF_UNIX is for notifications too"
    assert "Service.MemoryDenyWriteExecute" not in UNIT, "pyOpenSSL's callbacks need such memory"
    assert UNIT["Service.SystemCallFilter"][-1] == "setrlimit setpriority", "processes of scripts limit themselves"


def test_the_socket_is_the_service_s_and_has_the_name_that_the_comment_tells_to_configure() -> None:
    socket = directives("rpcbroker.socket")
    assert socket["Socket.Service"] == ["rpcbroker.service"]
    (name,) = socket["Socket.FileDescriptorName"]
    assert f'listen = "systemd:domain=INET6:name={name}"' in (CONF / "rpcbroker.socket").read_text()
