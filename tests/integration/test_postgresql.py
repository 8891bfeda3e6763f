"""The real daemon with its store in PostgreSQL: a kill, and a database that goes away and comes back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from answering_device import AnsweringDevice
from daemon import Daemon, wait_for
from persistent import PERSISTENT, checked, persistent, successful, twoway
from postgres import Cluster

UNREACHABLE = "the database cannot be reached"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that is one test's, which may stop it."""
    made = Cluster()
    made.start()
    yield made
    made.remove()


def test_an_accepted_call_outlives_a_kill_of_the_broker(tmp_path: Path, cluster: Cluster) -> None:
    broker = Daemon(tmp_path, RPCBROKER_STORE_URL=cluster.url).login()
    device_id = broker.add_device("d", "D")
    status, accepted = twoway(broker, device_id, **PERSISTENT)
    assert status == 200
    broker.stop(signal.SIGKILL)
    (broker.state / "endpoints.json").unlink()
    broker = Daemon(tmp_path, RPCBROKER_STORE_URL=cluster.url).login()
    assert persistent(broker, accepted["rpcId"])["status"] == "QUEUED"
    device = AnsweringDevice(broker, "D")
    wait_for(successful(broker, accepted["rpcId"]), "the end of the call")
    assert persistent(broker, accepted["rpcId"])["response"] == {"pin": 7}
    assert twoway(broker, device_id) == (200, 5)
    (first, _), (second, _) = device.calls
    assert second > first
    assert "1 call, 1 device: nothing broken" in checked(broker, RPCBROKER_STORE_URL=cluster.url)
    device.close()
    broker.stop()
    assert not list(broker.state.glob("*.sqlite*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["in good order", "by a kill"])
def test_while_postgresql_is_away_writes_are_refused_and_when_it_is_back_all_goes_on(
    tmp_path: Path, cluster: Cluster, how: int
) -> None:
    broker = Daemon(tmp_path, RPCBROKER_STORE_URL=cluster.url).login()
    awake, asleep = broker.add_device("awake", "AWAKE"), broker.add_device("asleep", "ASLEEP")
    device = AnsweringDevice(broker, "AWAKE")
    broker.wait_callable(awake)
    status, accepted = twoway(broker, asleep, **PERSISTENT)
    assert status == 200
    cluster.stop(how)
    status, refused = twoway(broker, awake, **PERSISTENT)
    assert (status, refused["reason"]) == (503, "STORE_UNAVAILABLE")
    assert refused["message"] == f"The store cannot be written: {UNREACHABLE}"
    assert "postgres" not in str(refused), "where it is concerns no caller"
    status, unready = broker.ask("GET", "/readyz")
    assert status == 503
    assert f"store (The store cannot be read: {UNREACHABLE})" in unready["message"]
    assert f"store writer (The store cannot be written: {UNREACHABLE})" in unready["message"]
    assert [twoway(broker, awake, params=n) for n in range(5)] == [(200, n) for n in range(5)]
    cluster.start()
    wait_for(lambda: broker.ask("GET", "/readyz")[0] == 200, "readiness", seconds=10)
    late = AnsweringDevice(broker, "ASLEEP")
    wait_for(successful(broker, accepted["rpcId"]), "the end of the call that was accepted before")
    status, again = twoway(broker, awake, **PERSISTENT)
    assert status == 200
    wait_for(successful(broker, again["rpcId"]), "the end of the call that was accepted afterwards")
    assert [method for _, method in device.calls] == ["echo"] * 5 + ["setGpio"], "what was refused was never sent"
    assert "2 calls, 2 devices: nothing broken" in checked(broker, RPCBROKER_STORE_URL=cluster.url)
    for each in (device, late):
        each.close()
    assert broker.stop() == -signal.SIGTERM
    assert "Traceback" not in broker.log.read_text()
