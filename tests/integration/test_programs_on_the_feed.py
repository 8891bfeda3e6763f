"""The programs of docs/feed.md, run as they stand there against the real daemon and devices."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from answering_device import AnsweringDevice
from daemon import Daemon, environment
from plain_device import Device

from rpcbroker.wire.mqtt import packets as p

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "feed.md").read_text()
PROGRAM = re.compile(r"^<!-- run: (\w+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTS = re.compile(r"^<!-- prints -->\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS, OUTPUTS = PROGRAM.findall(PAGE), PRINTS.findall(PAGE)
JS = ROOT / "tests" / "interop" / "js"
TOKEN = "LAMP"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("broker")).login()
    yield daemon
    daemon.stop()
    assert "Traceback" not in daemon.log.read_text()


@pytest.fixture(scope="module")
def lamp(broker: Daemon) -> Iterator[str]:
    """It acknowledges each call, and answers with its params."""
    device_id = broker.add_device("lamp", TOKEN)
    device = AnsweringDevice(broker, TOKEN)
    yield device_id
    device.close()


@contextmanager
def running(broker: Daemon, number: int, **more: str) -> Iterator[subprocess.Popen[str]]:
    """The program of this number on the page."""
    language, text = PROGRAMS[number]
    if language == "node":
        assert (JS / "node_modules" / "autobahn").is_dir(), "npm's autobahn is missing; `make test` installs it"
        command = ["node", "--input-type=module", "--eval", text]
    else:
        command = [sys.executable, "-c", text]
    url = f"ws{broker.http.removeprefix('http')}/ws"
    process = subprocess.Popen(
        command,
        cwd=JS,
        env=environment(URL=url, TICKET=broker.token or "", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def output(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return out


@pytest.mark.parametrize("number", [0, 1])
def test_a_program_prints_what_the_page_says(broker: Daemon, lamp: str, number: int) -> None:
    with running(broker, number, DEVICE=lamp) as process:
        assert output(process) == OUTPUTS[number]


def test_an_application_answers_a_device(broker: Daemon) -> None:
    broker.add_device("kiosk", "KIOSK")
    kiosk = Device(broker, "KIOSK")
    kiosk.send(p.Subscribe(2, (p.Subscription("v1/devices/me/rpc/response/+", 0),)))
    assert isinstance(kiosk.read(), p.SubAck)
    with running(broker, 2) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        kiosk.send(p.Publish("v1/devices/me/rpc/request/1", b'{"method":"getPrice","params":{"item":7}}'))
        answer = kiosk.read()
        assert isinstance(answer, p.Publish)
        assert (answer.topic, answer.payload) == ("v1/devices/me/rpc/response/1", b'{"item":7,"for":"kiosk"}')
        assert output(process) == ""
    kiosk.socket.close()


def test_every_program_of_the_page_is_run_here() -> None:
    assert [language for language, _ in PROGRAMS] == ["python", "node", "python"]
    assert len(OUTPUTS) == 2
