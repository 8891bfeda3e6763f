"""The vendor's gateway between the broker and a plant that has an MQTT broker of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from daemon import Daemon, wait_for
from plant import Plant, gateway
from seen import add_gateway, attribute, child, read

pytestmark = pytest.mark.interop

PARAMS = {"pin": 7, "text": "ü", "list": [1, None]}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("gateways"))
    yield daemon.login()
    daemon.stop()
    text = daemon.log.read_text()
    assert "Traceback" not in text, text[-5000:]


@pytest.fixture(scope="module")
def plant(broker: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A plant whose gateway is connected to the broker."""
    add_gateway(broker, "plant-gateway")
    with gateway(tmp_path_factory.mktemp("plant"), broker.mqtt_port, "plant-gateway") as plant:
        yield plant


@pytest.fixture
def press(broker: Daemon, plant: Plant) -> str:
    """The id of the plant's device, that the gateway has made known."""

    plant.post({"temperature": 21.5, "maker": "Ada"})
    return child(broker, "press")


def test_what_the_plant_s_device_posts_arrives(broker: Daemon, press: str) -> None:
    assert read(broker, press, "temperature") == 21.5
    assert attribute(broker, press, "maker") == "Ada"
    assert broker.ask("GET", f"/api/device/{press}")[1]["type"] == "press"


def test_a_call_goes_through_the_gateway_to_the_plant_s_topic_and_back(
    broker: Daemon, plant: Plant, press: str
) -> None:
    answer = broker.ask("POST", f"/api/rpc/twoway/{press}", {"method": "getForce", "params": PARAMS})
    assert answer == (200, {"got": PARAMS})
    assert broker.ask("POST", f"/api/rpc/oneway/{press}", {"method": "setForce", "params": 5}) == (200, None)
    wait_for(lambda: ("setForce", 5) in plant.heard, "the one-way call")
    assert plant.heard == [("getForce", PARAMS), ("setForce", 5)]
