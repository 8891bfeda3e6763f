"""A gateway on the vendor's SDK, and its child."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon, wait_for
from foreign import CLIENTS, Foreign, python_of
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


@pytest.fixture
def gateway(broker: Daemon, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Foreign]:
    """A gateway whose child has the name of the test."""
    name = request.node.name
    token = f"gw{name[-30:]}"  # a token has at most 32 characters
    add_gateway(broker, token)
    script = [python_of("TB_PYTHON"), str(CLIENTS / "tb_gateway.py"), str(broker.mqtt_port), token, name]
    with Foreign(script, tmp_path) as foreign:
        yield foreign


def test_calls_to_a_child_go_through_its_gateway(
    broker: Daemon, gateway: Foreign, request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    device_id = child(broker, name)
    for base in ("/api/plugins/rpc", "/api/rpc"):
        assert broker.ask("POST", f"{base}/oneway/{device_id}", {"method": "set", "params": PARAMS}) == (200, None)
        assert gateway.saw_such("called") == {"device": name, "called": {"method": "set", "params": PARAMS}}
        answer = broker.ask("POST", f"{base}/twoway/{device_id}", {"method": "get", "params": PARAMS})
        assert answer == (200, {"got": PARAMS})
        assert gateway.saw_such("called") == {"device": name, "called": {"method": "get", "params": PARAMS}}


def test_a_gateway_is_told_its_limits(gateway: Foreign) -> None:
    limits = gateway.saw_such("limits")["limits"]
    kinds = {"messages", "telemetryMessages", "telemetryDataPoints"}
    assert set(limits["rateLimits"]) == set(limits["gatewayRateLimits"]) == kinds


def test_what_a_child_posts_is_read_by_the_caller_and_by_the_gateway(
    broker: Daemon, gateway: Foreign, request: pytest.FixtureRequest
) -> None:
    device_id = child(broker, request.node.name)
    assert read(broker, device_id, "temperature") == 21.5
    assert attribute(broker, device_id, "serial") == "A-1"
    answer = gateway.saw_such("attributes")["attributes"]
    assert answer["device"] == request.node.name
    # one key that was asked for in a list of keys
    assert answer.get("value", answer.get("values")) in ("A-1", {"serial": "A-1"})


def test_a_shared_attribute_is_told_to_the_child_s_gateway(
    broker: Daemon, gateway: Foreign, request: pytest.FixtureRequest
) -> None:
    device_id = child(broker, request.node.name)
    gateway.saw_such("attributes")
    path = f"/api/plugins/telemetry/DEVICE/{device_id}/attributes/SHARED_SCOPE"
    assert broker.ask("POST", path, {"interval": 5})[0] == 200
    assert gateway.saw_such("told") == {"device": request.node.name, "told": {"interval": 5}}


def test_a_child_has_the_type_that_its_gateway_said(
    broker: Daemon, gateway: Foreign, request: pytest.FixtureRequest
) -> None:
    device_id = child(broker, request.node.name)
    assert broker.ask("GET", f"/api/device/{device_id}")[1]["type"] == "thermometer"


def test_a_child_that_was_disconnected_is_not_callable(
    broker: Daemon, gateway: Foreign, request: pytest.FixtureRequest
) -> None:
    device_id = child(broker, request.node.name)
    gateway.tell("disconnect")

    def gone() -> bool:
        return not broker.ask("GET", f"/api/device/{device_id}/presence")[1]["callable"]["value"]

    wait_for(gone, "a child that is not callable")
