"""SIGHUP to the real daemon: what is taken, what is left, and that no call is lost on the way."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from daemon import TWISTD, Daemon, environment, wait_for
from fake_systemd import Notifications
from plain_device import Device

from rpcbroker.wire.mqtt import packets as p


class Reloadable:
    """A daemon with a configuration file."""

    def __init__(self, directory: Path, **more: Any) -> None:
        self.file = directory / "rpcbroker.toml"
        self.file.touch()
        self._notifications = Notifications(directory / "notify")
        self.daemon = Daemon(
            directory,
            arguments=["--config", "rpcbroker.toml"],
            NOTIFY_SOCKET=self._notifications.address,
            **more,
        )
        self._notifications.wait("READY=1")
        self._read = len(self.log())

    def reload(self, text: str | None = None) -> list[str]:
        """The lines that the log got by it."""
        if text is not None:
            self.file.write_text(text)
        self.daemon.process.send_signal(signal.SIGHUP)
        self._notifications.wait("READY=1")
        said, self._read = self.log()[self._read :], len(self.log())
        return [line.partition(" ")[2] for line in said]

    def log(self) -> list[str]:
        return self.daemon.log.read_text().splitlines()

    def close(self) -> None:
        self.daemon.stop()
        self._notifications.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Reloadable]:
    made = Reloadable(tmp_path, RPCBROKER_AUTH_FREE_FAILURES="1")
    yield made
    made.close()


@contextmanager
def hangups(pid: Callable[[], int]) -> Iterator[None]:
    """SIGHUP after SIGHUP."""
    over = threading.Event()

    def hang_up() -> None:
        while not over.is_set():
            os.kill(pid(), signal.SIGHUP)
            time.sleep(0.002)

    sender = threading.Thread(target=hang_up)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def test_a_changed_file_is_taken_at_once(broker: Reloadable) -> None:
    device_id = broker.daemon.login().add_device("d", "D")
    changed = "[rpcbroker.service.BrokerService#info] configuration read again; changed: "
    assert broker.reload('[rpc]\nmin_timeout = "100ms"\n') == [f"{changed}[rpc] min_timeout"]
    began = time.monotonic()
    status, _ = broker.daemon.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "x", "timeout": 100})
    assert status >= 400
    assert time.monotonic() - began < 4, "the floor was 5 s"
    assert broker.reload() == [f"{changed}nothing"]


def test_the_level_of_the_log_holds_at_once(broker: Reloadable) -> None:
    assert broker.reload('[log]\nlevel = "error"\n[store]\ncache_size = 7\n') == [], "only an error would be logged"
    assert len(broker.reload("nonsense")) == 1
    assert len(broker.reload("[store]\ncache_size = 7\n")) == 2, "the level is info again"


def test_what_needs_a_restart_is_named_and_the_environment_stays(broker: Reloadable) -> None:
    said = broker.reload('[http]\nlisten = "tcp:1"\n[store]\ncache_size = 7\n[auth]\nfree_failures = 5\n')
    assert said == [
        "[rpcbroker.service.BrokerService#info] configuration read again; changed: nothing",
        "[rpcbroker.service.BrokerService#warn] needs a restart: [store] cache_size",
    ]
    wrong = {"username": "somebody", "password": "wrong"}
    assert [broker.daemon.ask("POST", "/api/auth/login", wrong)[0] for _ in range(2)] == [401, 429]


def test_a_broken_file_changes_nothing_and_is_one_line(broker: Reloadable) -> None:
    (said,) = broker.reload('[rpc]\nmin_timeout = "5 parsecs"\n')
    assert said.startswith("[rpcbroker.tap.Daemon#error] the configuration stays as it is: [rpc] min_timeout: ")
    broker.file.unlink()
    (said,) = broker.reload()
    assert said.endswith("rpcbroker.toml: cannot be read: No such file or directory")
    assert broker.daemon.ask("GET", "/readyz")[0] == 200


def test_a_log_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    log = tmp_path / "the.log"
    daemon = Daemon(tmp_path, command=[TWISTD, "-n", "--pidfile=", "--logfile", "the.log"], arguments=["--log-json"])
    log.rename(tmp_path / "moved.log")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(log.exists, "the new log")
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for((tmp_path / "the.log.1").exists, "a rotated log")
    daemon.stop()
    files = [tmp_path / name for name in ("moved.log", "the.log.1", "the.log")]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [line["level"] for line in lines] == ["info"] * len(lines)
    messages = [line["message"] for line in lines]
    assert messages[0].startswith("rpcbroker ")
    assert "configuration read again; changed: nothing" in messages
    assert messages[-1] == "Server Shut Down."


def test_hangups_while_it_starts_and_while_it_stops_do_not_kill_it(tmp_path: Path) -> None:
    lock, log = tmp_path / "state" / "lock", tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [TWISTD, "-n", "--pidfile=", "rpcbroker", "--state-dir", "state"],
            cwd=tmp_path,
            env=environment(RPCBROKER_SERVER_DRAIN="500ms"),
            stderr=file,
        )
    wait_for(lock.exists, "the lock, which is taken before the store is opened")
    with hangups(lambda: process.pid):
        wait_for(lambda: "configuration read again" in log.read_text(), "the first of them that is heeded")
        process.terminate()
        process.wait(15)
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in log.read_text()
    assert log.read_text().endswith("Server Shut Down.\n")


class Load:
    """Callers that call without a pause, and a device that answers: what became of each call."""

    def __init__(self, daemon: Daemon, callers: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.answered: set[int] = set()
        self.taken: set[int] = set()
        self._path = f"/api/rpc/twoway/{daemon.add_device('d', 'D')}"
        self._daemon = daemon
        self._numbers = iter(range(10**9))
        self._device = Device(daemon, "D")
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._answer)]
        self._threads += [threading.Thread(target=self._call) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def wait_answered(self, more: int) -> None:
        """Wait until so many more have been answered."""
        enough = self.outcomes["answered"] + more
        wait_for(lambda: self.outcomes["answered"] >= enough, "answers to calls")

    def join(self) -> None:
        """Wait until everybody has stopped: the broker is gone."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a call hangs"
        self._device.socket.close()

    def _answer(self) -> None:
        while isinstance(request := self._device.read(), p.Publish):
            self.taken.add(json.loads(request.payload)["params"])
            self._device.send(p.PubAck(request.packet_id or 0))
            topic = request.topic.replace("request", "response")
            self._device.send(p.Publish(topic, request.payload))

    def _call(self) -> None:
        host, port = self._daemon.http.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        headers = {"X-Authorization": f"Bearer {self._daemon.token}", "Content-Type": "application/json"}
        while True:
            number = next(self._numbers)
            body = json.dumps({"method": "echo", "params": number})
            try:
                connection.request("POST", self._path, body, headers)
                with connection.getresponse() as response:
                    said = json.loads(response.read())
            except ConnectionRefusedError:
                self.outcomes["refused"] += 1
                break
            except (ConnectionError, http.client.HTTPException):
                self.outcomes["closed before it was read"] += 1
                connection.close()
                continue
            if response.status == 200:
                assert said["params"] == number
                self.answered.add(number)
                self.outcomes["answered"] += 1
            else:
                self.outcomes[f"{response.status} {said['reason']}"] += 1
        connection.close()


def test_no_call_is_lost_when_it_is_reloaded_and_stopped_under_load(tmp_path: Path) -> None:
    made = Reloadable(tmp_path)
    load = Load(made.daemon.login(), callers=8)
    load.wait_answered(200)
    for number in range(5):
        made.reload(f'[rpc]\nmin_timeout = "{5 + number}s"\n[http]\nmax_body_size = "{number + 1}MiB"\n')
        load.wait_answered(50)
    assert set(load.outcomes) == {"answered"}, "a reload disturbs nobody"
    assert made.daemon.stop() == -signal.SIGTERM
    load.join()
    assert set(load.outcomes) <= {"answered", "refused", "closed before it was read", "503 SHUTTING_DOWN"}
    assert load.taken == load.answered, "what the device got, its caller was told of"
    assert "Traceback" not in "\n".join(made.log())
    made.close()
