"""Where devices find the broker: lines to paste, and what `simulate` takes."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fake_broker import URL, FakeBroker, Shell, json_answer

from rpcbroker.cli.addresses import addresses
from rpcbroker.cli.answers import Answer
from rpcbroker.cli.simulate import Simulation
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.values import BrokerUrl

KNOWN = {
    "http": "http://127.0.0.1:8080",
    "mqtt": "mqtt://127.0.0.1:2883",
    "coap": "coap://127.0.0.1:6683",
    "mqtt-ws": "ws://127.0.0.1:8080/mqtt",
}


@pytest.fixture
def at(tmp_path: Path) -> Any:
    """Writes down where a broker listens, and tells in which directory."""

    def write(**urls: str) -> str:
        (tmp_path / "endpoints.json").write_text(json.dumps(urls))
        return str(tmp_path)

    return write


def lines(output: str, *, start: str) -> list[list[str]]:
    return [shlex.split(line) for line in output.splitlines() if line.startswith(start)]


def test_lines_to_paste_have_the_ports_that_the_broker_has(shell: Shell, at: Any) -> None:
    shell.log_in()
    output = shell.run("device", "add", "lamp", "--token", "a/b'c", "--state-dir", at(**KNOWN)).stderr
    assert "mosquitto_sub -h 127.0.0.1 -p 2883 " in output
    coap = lines(output, start="coap-client")
    assert [words[-1] for words in coap] == [
        "coap://127.0.0.1:6683/api/v1/a%2Fb%27c/rpc",
        "coap://127.0.0.1:6683/api/v1/a%2Fb%27c/rpc/ID",
    ]
    http = [words for words in lines(output, start="curl") if f"{URL}/api/v1/a%2Fb%27c/rpc" in " ".join(words)]
    assert [words[-1].partition("/rpc")[2] for words in http] == ["?timeout=60000", "", "/ID"]
    assert "Accept: text/event-stream" in http[1]


@pytest.mark.parametrize("words", [("device", "add", "lamp"), ("device", "show", "lamp", "--connect")])
def test_without_a_broker_on_this_machine_they_have_the_usual_ports(
    shell: Shell, at: Any, words: tuple[str, ...]
) -> None:
    shell.log_in()
    if "show" in words:
        shell.broker.add("lamp")
        shell.broker.on_call = _shown
    result = shell.run(*words, "--state-dir", at())
    output = result.stdout if "show" in words else result.stderr
    assert "mosquitto_sub -h localhost -p 1883 " in output
    assert "coap://localhost:5683/" in output


def _shown(path: str, _body: Any) -> Answer:
    """What `device show` asks for, of the one device that there is."""
    if path.endswith("/presence"):
        unknown = {"value": False, "time": None, "cause": None}
        presence = {
            "deviceId": {"id": str(UUID(int=1)), "entityType": "DEVICE"},
            "connected": unknown,
            "callable": unknown,
            "lastSeen": unknown,
            "pendingCalls": 0,
            "droppedReplies": 0,
            "nearMisses": [],
        }
        return json_answer(200, presence)
    broker = FakeBroker()
    broker.add("lamp")
    return json_answer(200, broker.devices["lamp"])


def test_a_token_is_shown_to_those_who_ask_for_it_only(shell: Shell, at: Any) -> None:
    shell.log_in()
    shell.broker.add("lamp", token="SECRET")
    shell.broker.on_call = _shown
    assert "SECRET" not in shell.run("device", "show", "lamp").output
    assert "SECRET" in shell.run("device", "show", "lamp", "--connect", "--state-dir", at()).output
    assert shell.run("device", "show", "lamp", "--connect", "--json").exit_code == 2


def test_what_the_broker_does_not_speak_is_not_offered(shell: Shell, at: Any) -> None:
    shell.log_in()
    output = shell.run("device", "add", "lamp", "--state-dir", at(http=KNOWN["http"])).stderr
    assert "mosquitto_sub" not in output
    assert "coap" not in output
    assert "curl" in output


@pytest.mark.parametrize(
    ("url", "known", "same"),
    [
        ("http://localhost:8080", "http://127.0.0.1:8080", True),
        ("http://[::1]:8080", "http://127.0.0.1:8080", True),
        ("http://localhost", "http://127.0.0.1:80", True),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080", True),
        ("http://10.0.0.1:8080", "http://127.0.0.1:8080", False),
        ("http://localhost:8081", "http://127.0.0.1:8080", False),
        ("https://localhost:8080", "http://127.0.0.1:8080", False),
        ("http://localhost:8080", "http+unix:///run/socket", False),
        ("http://localhost:8080", "http://127.0.0.1:x", False),
    ],
)
def test_which_broker_is_the_one_of_this_machine(at: Any, url: str, known: str, same: bool) -> None:
    found = addresses(url, at(http=known, mqtt="mqtt://127.0.0.1:7"))
    assert (found.known is not None) is same
    assert str(found.must("mqtt")).endswith(":7" if same else ":1883")


def test_damaged_endpoints_are_none(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text("{")
    assert addresses(URL, str(tmp_path)).known is None


def test_what_is_spoken_only_encrypted_is_found_too(at: Any) -> None:
    found = addresses(URL, at(http=KNOWN["http"], mqtts="mqtts://127.0.0.1:8"))
    assert str(found.must("mqtt", "mqtts")) == "mqtts://127.0.0.1:8"
    with pytest.raises(Stop, match="does not listen for CoAP"):
        found.must("coap")


# -- simulate


def asked(**options: Any) -> Simulation:
    nothing: dict[str, Any] = {field.name: None for field in dataclasses.fields(Simulation)}
    return Simulation(**nothing | {"name": "lamp"} | options)


def test_simulate_refuses_credentials_that_it_cannot_use(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp", token="BASIC")
    result = shell.run("simulate", "lamp")
    assert result.exit_code == 1
    assert "MQTT_BASIC" in result.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--gpio", "7,x"),
        ("--latency", "5 weeks"),
        ("--drop", "101%"),
        ("--duplicate", "x"),
        ("--crash-after", "0"),
        ("--sleep-schedule", "5s"),
        ("--mqtt", "a:b"),
        ("--mqtt", "a:0"),
        ("--broker", "nowhere"),
        ("--protocol", "wamp"),
        ("--token-file", "/none/such"),
        ("--ca", "/none/such"),
    ],
)
def test_bad_options_of_simulate_are_usage_errors(shell: Shell, name: str, value: str) -> None:
    shell.log_in()
    result = shell.run("simulate", "lamp", name, value)
    assert result.exit_code == 2
    assert name in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mqtt", "a", "--broker", "mqtt://a"), "--mqtt and --broker"),
        (("--protocol", "coap", "--broker", "mqtt://a"), "coap://, not mqtt://a:1883"),
        (("--protocol", "sse", "--mqtt", "a"), "http:// or https://"),
        (("--key", __file__), "--cert"),
        (("--ca", __file__, "--insecure"), "exclude each other"),
    ],
)
def test_options_that_do_not_fit_together_are_usage_errors(shell: Shell, words: tuple[str, ...], says: str) -> None:
    result = shell.run("simulate", "lamp", *words)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("protocol", "broker", "spoken"),
    [
        (None, None, "mqtt"),
        (None, "mqtts://a", "mqtt"),
        (None, "coap://a", "coap"),
        (None, "coaps://a", "coaps"),
        (None, "https://a", "http"),
        ("sse", "https://a", "sse"),
        ("coap", None, "coap"),
    ],
)
def test_the_protocol_is_the_one_that_is_named_or_that_of_the_url(
    protocol: str | None, broker: str | None, spoken: str
) -> None:
    given = None if broker is None else BrokerUrl.read(broker)
    assert asked(protocol=protocol, broker=given).spoken == spoken


@pytest.mark.parametrize(
    ("protocol", "where"),
    [
        ("mqtt", "mqtt://127.0.0.1:2883"),
        ("coap", "coap://127.0.0.1:6683"),
        ("http", "http://localhost:8080"),
        ("sse", "http://localhost:8080"),
    ],
)
def test_it_connects_to_where_the_broker_listens(at: Any, protocol: str, where: str) -> None:
    assert str(asked(protocol=protocol, state_dir=at(**KNOWN)).found(URL)) == where


def test_a_protocol_that_the_broker_does_not_speak_is_an_error(at: Any) -> None:
    with pytest.raises(Stop, match="does not listen for CoAP over DTLS"):
        asked(protocol="coaps", state_dir=at(**KNOWN)).found(URL)


def test_with_a_token_of_its_own_it_needs_no_login(shell: Shell, tmp_path: Path) -> None:
    """It goes on to the next thing that is missing: whose certificates it shall believe."""
    (tmp_path / "token").write_text("T\n")
    (tmp_path / "ca").write_text("nothing")
    words = ("simulate", "lamp", "--broker", "coaps://127.0.0.1:1", "--ca", str(tmp_path / "ca"))
    for more in ({"env": {"RPCBROKER_DEVICE_TOKEN": "T"}}, {}):
        result = shell.run(*words, *(() if more else ("--token-file", str(tmp_path / "token"))), **more)
        assert result.exit_code == 2
        assert f"{tmp_path / 'ca'} cannot be used" in result.stderr
    assert shell.broker.requests == []
    assert shell.run(*words).exit_code == 3


def test_an_empty_token_file_is_an_error(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    result = shell.run("simulate", "lamp", "--token-file", str(tmp_path / "token"))
    assert (result.exit_code, result.stderr) == (2, f"Error: There is no token in {tmp_path / 'token'}.\n")
