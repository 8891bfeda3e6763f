"""What the real daemon logs, and where."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from daemon import TWISTD, Daemon, environment


def run(
    directory: Path, *arguments: str, twistd: tuple[str, ...] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """A broker that ends by itself, for it cannot start."""
    return subprocess.run(
        [TWISTD, "-n", "--pidfile=", *twistd, "rpcbroker", *arguments],
        check=False,
        cwd=directory,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
    )


def messages(daemon: Daemon) -> list[str]:
    return [line.partition("] ")[2] for line in daemon.log.read_text().splitlines()]


def test_a_start_and_an_end_are_a_handful_of_lines_on_stderr(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.login().add_device("d", "D")
    daemon.stop()
    first, *rest = messages(daemon)
    assert first.startswith("rpcbroker ")
    assert first.endswith(f"its state in {daemon.state}")
    assert rest == [
        f"http at {daemon.http}",
        f"mqtt at {daemon.endpoints['mqtt']}",
        f"coap at {daemon.endpoints['coap']}",
        f"mqtt-ws at {daemon.endpoints['mqtt-ws']}",
        f"wamp-ws at {daemon.endpoints['wamp-ws']}",
        "Received SIGTERM, shutting down.",
        "Main loop terminated.",
        "Server Shut Down.",
    ]


def test_a_second_signal_is_no_error(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGINT)
    daemon.stop()
    assert "Traceback" not in daemon.log.read_text()
    assert not (daemon.state / "endpoints.json").exists()


def test_as_json_every_line_is_an_object(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, arguments=["--log-json"])
    daemon.stop()
    said = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert {"name": "http", "url": daemon.http, "level": "info"}.items() <= said[1].items()
    assert all({"time", "level", "logger", "message"} <= set(one) for one in said)


def test_what_prevents_the_start_is_json_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(tmp_path, "--state-dir", "file/state", "--log-json")
    (line,) = done.stderr.splitlines()
    said = json.loads(line)
    assert (done.returncode, said["level"]) == (1, "error")
    assert said["message"].startswith("state directory ")


def test_repeats_are_counted_and_told_at_the_end(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, RPCBROKER_LOG_REPEATS="5")  # as often as a start says where it listens
    again = "configuration read again; changed: nothing"
    for _ in range(7):
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.ask("GET", "/healthz")[0] == 200, "it has taken the signal, and so takes the next one too"
    daemon.stop()
    assert messages(daemon).count(again) == 5
    (told,) = [line for line in messages(daemon) if line.startswith("... ")]
    assert told.startswith("... 2 more of these in ")


def test_a_logger_of_the_operator_s_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "their_log.py").write_text(
        "from twisted.logger import ILogObserver, formatEvent\n"
        "from zope.interface import implementer\n"
        "@implementer(ILogObserver)\n"
        "class Theirs:\n"
        "    def __call__(self, event):\n"
        "        open('theirs.log', 'a').write(str(formatEvent(event)) + '\\n')\n"
    )
    daemon = Daemon(
        tmp_path, command=[TWISTD, "-n", "--pidfile=", "--logger", "their_log.Theirs"], PYTHONPATH=str(tmp_path)
    )
    daemon.stop()
    assert daemon.log.read_text() == ""
    assert f"http at {daemon.http}" in (tmp_path / "theirs.log").read_text()


@pytest.mark.parametrize(
    ("twistd", "arguments", "says"),
    [
        (("--syslog",), ("--log-json",), "--log-json is for stderr and --logfile, not for --syslog"),
        (("--logfile", "none/log"), (), "rpcbroker: --logfile none/log: No such file or directory"),
    ],
)
def test_a_log_that_cannot_be_is_refused(
    tmp_path: Path, twistd: tuple[str, ...], arguments: tuple[str, ...], says: str
) -> None:
    done = run(tmp_path, *arguments, twistd=twistd)
    assert done.returncode == 1
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_socket_s_file_that_somebody_removed_does_not_spoil_the_end(tmp_path: Path) -> None:
    listen = f"tcp:0:interface=127.0.0.1 unix:{tmp_path / 'socket'}"
    daemon = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=listen)
    (tmp_path / "socket").unlink()
    assert daemon.stop() == -signal.SIGTERM
    (warning,) = [line for line in messages(daemon) if "good order" in line]
    assert str(tmp_path / "socket") in warning
    assert not (daemon.state / "endpoints.json").exists()
