"""Devices over CoAP on real sockets, and what REST says of them; how devices enrol over CoAP and HTTP."""

from __future__ import annotations

import itertools
import json
import queue
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import pytest
from coap_socket import CoapSocket, Udp, option
from daemon import Daemon, wait_for
from hostile import attacked
from persistent import keep, persistent, successful
from test_hostile_coap import Calling, device_id

from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, ContentFormat, OptionNumber, Type, to_uint, uint

NAMES = itertools.count(1)
SETTINGS = {"RPCBROKER_COAP_ACK_TIMEOUT": "300ms", "RPCBROKER_RPC_MIN_TIMEOUT": "100ms"}
ACCEPT_CBOR = ((int(OptionNumber.ACCEPT), uint(ContentFormat.CBOR)),)
IN_CBOR = ((int(OptionNumber.CONTENT_FORMAT), uint(ContentFormat.CBOR)),)


def free_port(family: socket.AddressFamily, host: str) -> int:
    with socket.socket(family, socket.SOCK_DGRAM) as free:
        free.bind((host, 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def urls() -> list[str]:
    """Further ports of CoAP."""
    return [
        f"coap://127.0.0.1:{free_port(socket.AF_INET, '127.0.0.1')}",
        f"coap://[::1]:{free_port(socket.AF_INET6, '::1')}",
    ]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, urls: list[str]) -> Iterator[Daemon]:
    further = [
        f"udp:{url.rpartition(':')[2]}:interface={host}"
        for url, host in zip(urls, ("127.0.0.1", r"\:\:1"), strict=True)
    ]
    listen = " ".join(["udp:0:interface=127.0.0.1", *further])
    with attacked(tmp_path_factory.mktemp("coap"), RPCBROKER_COAP_LISTEN=listen, **SETTINGS) as daemon:
        yield daemon


class Device:
    """A device, which acknowledges what it is told, and what it was told."""

    def __init__(self, url: str, token: str) -> None:
        self.told: queue.Queue[Message] = queue.Queue()
        self.socket = CoapSocket(Udp(url), self.told.put)
        self._path = f"api/v1/{token}"

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def get(self, feature: str, **more: Any) -> Message:
        return self.socket.ask(Code.GET, f"{self._path}/{feature}", **more)

    def post(self, feature: str, payload: bytes, **more: Any) -> Message:
        return self.socket.ask(Code.POST, f"{self._path}/{feature}", payload, **more)

    def next(self) -> Message:
        return self.told.get(timeout=10)

    def call(self) -> Any:
        """The next call."""
        return json.loads(self.next().payload)


@pytest.fixture
def token(daemon: Daemon) -> str:
    """The access token, and the name, of a fresh device."""
    token = f"device-{next(NAMES)}"
    daemon.add_device(token, token)
    return token


@pytest.fixture
def device(daemon: Daemon, token: str) -> Iterator[Device]:
    with Device(daemon.endpoints["coap"], token) as device:
        yield device


def presence(daemon: Daemon, token: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.ask("GET", f"/api/device/{device_id(daemon, token)}/presence")[1]
    return found


def test_it_is_spoken_on_several_ports_and_over_ipv6(daemon: Daemon, token: str, urls: list[str]) -> None:
    for url in urls:
        with Device(url, token) as one, Device(daemon.endpoints["coap"], token) as other:
            assert one.get("rpc", observe=0).code == Code.VALID
            for replying in (one, other):  # the reply may come on another port
                calling = Calling(daemon, token)
                assert replying.post(f"rpc/{one.call()['id']}", b"5").code == Code.CREATED
                assert calling.answer() == (200, 5)


def test_a_device_may_speak_cbor_only(daemon: Daemon, token: str, device: Device) -> None:
    device.get("rpc", observe=0, more=ACCEPT_CBOR)
    calling = Calling(daemon, token, params={"list": [1, None, "ü"]})
    told = device.next()
    assert to_uint(option(told, OptionNumber.CONTENT_FORMAT) or b"") == ContentFormat.CBOR
    call = cbor2.loads(told.payload)
    assert call == {"id": call["id"], "method": "m", "params": {"list": [1, None, "ü"]}}
    assert device.post(f"rpc/{call['id']}", cbor2.dumps({"ok": 1.5}), more=IN_CBOR).code == Code.CREATED
    assert calling.answer() == (200, {"ok": 1.5})
    asked = device.post("rpc", cbor2.dumps({"method": "getCurrentTime", "params": {}}), more=IN_CBOR)
    assert cbor2.loads(asked.payload) > 1_700_000_000_000
    assert device.post("attributes", cbor2.dumps({"a": True}), more=IN_CBOR).code == Code.CREATED
    assert cbor2.loads(device.get("attributes", more=ACCEPT_CBOR).payload) == {"client": {"a": True}}
    assert device.post("telemetry", cbor2.dumps({"t": 21}), more=IN_CBOR).code == Code.CREATED
    path = f"/api/plugins/telemetry/DEVICE/{device_id(daemon, token)}/values/timeseries?keys=t"
    assert wait_for(lambda: daemon.ask("GET", path)[1].get("t"), "what it measured")[0]["value"] == "21"


def test_shared_attributes_are_observed(daemon: Daemon, token: str, device: Device) -> None:
    path = f"/api/plugins/telemetry/DEVICE/{device_id(daemon, token)}"
    assert daemon.ask("POST", f"{path}/attributes/SHARED_SCOPE", {"a": 1, "b": 2})[0] == 200
    observed = device.socket.new_token()
    assert json.loads(device.get("attributes", observe=0, token=observed).payload) == {"a": 1, "b": 2}
    assert daemon.ask("POST", f"{path}/attributes/SHARED_SCOPE", {"a": {"deep": [1]}})[0] == 200
    assert json.loads(device.next().payload) == {"a": {"deep": [1]}}
    assert daemon.ask("DELETE", f"{path}/SHARED_SCOPE?keys=b")[0] == 200
    assert json.loads(device.next().payload) == {"deleted": ["b"]}
    assert presence(daemon, token)["connected"]["value"]
    assert not presence(daemon, token)["callable"]["value"]
    assert device.get("attributes", observe=1, token=observed).code == Code.CONTENT
    wait_for(lambda: not presence(daemon, token)["connected"]["value"], "the end of the observation")


@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
def test_a_device_that_saves_power_is_called_when_it_is_awake(daemon: Daemon, kind: Type) -> None:
    token = f"device-{next(NAMES)}"
    body = {"name": token, "additionalInfo": {"psm": 300}}
    assert daemon.ask("POST", f"/api/device?accessToken={token}", body)[0] == 200
    with Device(daemon.endpoints["coap"], token) as device:
        device.get("rpc", observe=0, kind=kind)
        wait_for(lambda: presence(daemon, token)["callable"]["cause"] == "sleeps", "the device asleep")
        found = presence(daemon, token)
        assert (found["callable"]["value"], found["connected"]["value"]) == (False, True)
        status, error = Calling(daemon, token, connectTimeout=0).answer()
        assert (status, error["reason"]) == (504, "NO_SUBSCRIPTION")
        assert error["hint"].endswith("sleeps; it takes calls for 0.3 s after each message of its own.")
        status, error = Calling(daemon, token, timeout=200).answer()
        assert (status, error["reason"]) == (504, "NO_SUBSCRIPTION")
        kept = keep(daemon, device_id(daemon, token), "kept", timeout=20_000)
        assert persistent(daemon, kept)["status"] == "QUEUED"
        assert device.told.empty()
        device.post("telemetry", b'{"t":1}', kind=kind)
        call = device.call()
        assert call["method"] == "kept"
        device.post(f"rpc/{call['id']}", b"1", kind=kind)
        wait_for(successful(daemon, kept), "its reply")
        assert device.told.empty()


def test_a_device_behind_a_nat_is_called_where_it_was_heard_last(daemon: Daemon, token: str) -> None:
    with Device(daemon.endpoints["coap"], token) as before:
        before.get("rpc", observe=0)
    kept = keep(daemon, device_id(daemon, token), "kept", timeout=20_000)
    wait_for(lambda: persistent(daemon, kept)["status"] == "SENT", "the call on its way to where nobody is any more")
    with Device(daemon.endpoints["coap"], token) as now:
        assert now.post("telemetry", b'{"t":1}').code == Code.CREATED
        assert now.post(f"rpc/{now.call()['id']}", b"1").code == Code.CREATED
        wait_for(successful(daemon, kept), "its reply")
        calling = Calling(daemon, token)  # it has moved
        assert now.post(f"rpc/{now.call()['id']}", b"2").code == Code.CREATED
        assert calling.answer() == (200, 2)
    with Device(daemon.endpoints["coap"], token) as later:  # it moves, and is called after that
        assert later.post("telemetry", b'{"t":2}').code == Code.CREATED
        calling = Calling(daemon, token)
        assert later.post(f"rpc/{later.call()['id']}", b"3").code == Code.CREATED
        assert calling.answer() == (200, 3)
        assert presence(daemon, token)["callable"]["value"]


# -- enrolment

Post = Callable[[str, Any], tuple[int, Any]]


def over_coap(daemon: Daemon, path: str, body: Any) -> tuple[int, Any]:
    with CoapSocket(Udp(daemon.endpoints["coap"])) as stranger:
        answer = stranger.ask(Code.POST, path, json.dumps(body).encode())
    return answer.code, json.loads(answer.payload) if answer.payload[:1] == b"{" else None


def over_http(daemon: Daemon, path: str, body: Any) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{daemon.http}/{path}", json.dumps(body).encode(), 10) as answer:
            status, said = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, said = error.code, error.read()
    return status, json.loads(said) if said else None


WAYS = {
    "CoAP": (over_coap, Code.CREATED, Code.BAD_REQUEST, Code.UNAUTHORIZED),
    "HTTP": (over_http, 200, 200, 401),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_stranger_becomes_a_device_and_a_customers(daemon: Daemon, way: str) -> None:
    post, created, refused, unauthorized = WAYS[way]
    status, key = daemon.ask("POST", "/api/provisionKey", {"deviceType": f"sensor of {way}"})
    assert status == 200
    body = {name: key[name] for name in ("provisionDeviceKey", "provisionDeviceSecret")}
    wrong = post(daemon, "api/v1/provision", body | {"provisionDeviceSecret": "x" * 30})
    assert (wrong[0], wrong[1] and wrong[1]["status"]) == (refused, "NOT_FOUND")
    status, answer = post(daemon, "api/v1/provision", body | {"deviceName": f"new over {way}"})
    assert (status, answer["status"], answer["credentialsType"]) == (created, "SUCCESS", "ACCESS_TOKEN")
    token = answer["credentialsValue"]
    assert post(daemon, f"api/v1/{token}/telemetry", {"t": 1})[0] == created
    found = daemon.ask("GET", f"/api/tenant/device?deviceName=new%20over%20{way}")[1]
    assert found["type"] == f"sensor of {way}"
    assert post(daemon, f"api/v1/{token}/claim", {"secretKey": "s", "durationMs": 60_000})[0] == created
    assert post(daemon, f"api/v1/{token}x/claim", {"secretKey": "s"})[0] == unauthorized
    shopper = customers_user(daemon, way)
    path = f"/api/customer/device/new%20over%20{way}/claim"
    assert shopper("POST", path, {"secretKey": "wrong"})[0] == 400
    status, claimed = shopper("POST", path, {"secretKey": "s"})
    assert (status, claimed["response"]) == (200, "SUCCESS")
    assert shopper("GET", f"/api/device/{found['id']['id']}")[0] == 200


def customers_user(daemon: Daemon, name: str) -> Callable[..., tuple[int, Any]]:
    """Asks as a user of a new customer."""
    status, customer = daemon.ask("POST", "/api/customer", {"title": name})
    assert status == 200
    user = {"email": f"{name}@example.org", "authority": "CUSTOMER_USER", "customerId": customer["id"]}
    status, made = daemon.ask("POST", "/api/user?sendActivationMail=false", user)
    assert status == 200
    link = urllib.request.Request(f"{daemon.http}/api/user/{made['id']['id']}/activationLink")
    link.add_header("X-Authorization", f"Bearer {daemon.token}")
    with urllib.request.urlopen(link, timeout=10) as answer:
        activation = answer.read().decode().rpartition("=")[2]
    body = {"activateToken": activation, "password": "correct horse"}
    status, pair = daemon.ask("POST", "/api/noauth/activate", body)
    assert status == 200

    def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        own, daemon.token = daemon.token, pair["token"]
        try:
            return daemon.ask(method, path, body)
        finally:
            daemon.token = own

    return ask
