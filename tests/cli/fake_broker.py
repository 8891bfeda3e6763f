"""A broker's REST API in memory, and the commands run against it without a reactor or a socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import click.testing
import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from rpcbroker.cli.answers import Answer
from rpcbroker.core.model import NULL_UUID, Authority, CredentialsType, User
from rpcbroker.schema.common import EntityId, Id, PageJSON
from rpcbroker.schema.devices import CredentialsJSON, DeviceInfoJSON
from rpcbroker.schema.people import TokenPair, user_json

URL = "http://localhost:8080"
ME = user_json(
    User(
        id=UUID(int=10),
        tenant_id=UUID(int=1),
        email="me",
        authority=Authority.TENANT_ADMIN,
        password_hash="hash",
        created_time=1,
    )
)


def json_answer(status: int, value: Any, **headers: str) -> Answer:
    return Answer(status, headers, msgspec.json.encode(value))


def error(status: int, code: int, message: str, **more: str) -> Answer:
    return json_answer(status, {"status": status, "message": message, "errorCode": code, "timestamp": 1, **more})


@dataclass
class FakeBroker:
    """Users, tokens, devices; `on_call` decides about calls. `requests` is what came in."""

    url: str = URL
    password: str = "secret"
    good_tokens: set[str] = field(default_factory=set)
    good_refresh_tokens: set[str] = field(default_factory=set)
    devices: dict[str, DeviceInfoJSON] = field(default_factory=dict)
    tokens: dict[UUID, str] = field(default_factory=dict)
    on_call: Callable[[str, dict[str, Any]], Answer] = lambda _path, _body: Answer(200, {}, b"")
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    _pairs: int = 0

    def __call__(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> Deferred[Answer]:
        assert url.startswith(self.url)
        parts = urlsplit(url.removeprefix(self.url))
        value = json.loads(body) if body else None
        self.requests.append((method, parts.path, value))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return succeed(self._answer(method, parts.path, query, headers, value))

    def _answer(self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], body: Any) -> Answer:
        if path == "/api/auth/login":
            good = body["password"] == self.password
            return self._pair() if good else error(401, 10, "Invalid username or password")
        if path == "/api/auth/token":
            good = body["refreshToken"] in self.good_refresh_tokens
            return self._pair() if good else error(401, 11, "Token has expired")
        if headers.get("X-Authorization", "").removeprefix("Bearer ") not in self.good_tokens:
            return error(401, 11, "Token has expired")
        if path == "/api/auth/user":
            return json_answer(200, ME)
        if path == "/api/device" and method == "POST":
            return self._add(body, query)
        if path == "/api/tenant/device":
            device = self.devices.get(query["deviceName"])
            return json_answer(200, device) if device else error(404, 32, "Device is not found")
        if path == "/api/deviceInfos/all":
            return self._list(query)
        if path.endswith("/credentials"):
            return json_answer(200, self._credentials(UUID(path.split("/")[3])))
        return self.on_call(path, body)

    def _pair(self) -> Answer:
        self._pairs += 1
        pair = f"access{self._pairs}", f"refresh{self._pairs}"
        self.good_tokens.add(pair[0])
        self.good_refresh_tokens.add(pair[1])
        return json_answer(200, TokenPair(*pair))

    def add(self, name: str, token: str = "TOKEN", type_: str = "default") -> str:
        device_id = UUID(int=len(self.devices) + 1)
        nobody = EntityId("CUSTOMER", NULL_UUID)
        self.devices[name] = DeviceInfoJSON(
            id=EntityId("DEVICE", device_id),
            created_time=1_700_000_000_000,
            tenant_id=ME.tenant_id,
            customer_id=nobody,
            name=name,
            type=type_,
            label=None,
            device_profile_id=EntityId("DEVICE_PROFILE", NULL_UUID),
            firmware_id=None,
            software_id=None,
            external_id=None,
            version=1,
            additional_info=None,
            device_data={},
            customer_title=None,
            customer_is_public=False,
            device_profile_name=type_,
            active=False,
        )
        self.tokens[device_id] = token
        return str(device_id)

    def _credentials(self, device_id: UUID) -> CredentialsJSON:
        token = self.tokens[device_id]
        kind = CredentialsType.MQTT_BASIC if token == "BASIC" else CredentialsType.ACCESS_TOKEN
        return CredentialsJSON(Id(device_id), 1, EntityId("DEVICE", device_id), kind, token, None, 1)

    def _add(self, body: Any, query: dict[str, str]) -> Answer:
        if body["name"] in self.devices:
            return error(400, 31, "Device with such name already exists!")
        self.add(body["name"], query.get("accessToken", "MADEUP"), body["type"])
        return json_answer(200, self.devices[body["name"]])

    def _list(self, query: dict[str, str]) -> Answer:
        size, page = int(query["pageSize"]), int(query["page"])
        items = sorted(self.devices.values(), key=lambda device: device.name)
        part = items[size * page : size * (page + 1)]
        return json_answer(200, PageJSON(part, -(-len(items) // size), len(items), size * (page + 1) < len(items)))


@dataclass
class Shell:
    """Runs commands as a user would; `login_file` is where the login is kept."""

    broker: FakeBroker
    login_file: Path
    run: Callable[..., click.testing.Result]

    def log_in(self) -> None:
        result = self.run("login", URL, "-u", "me", "--password-stdin", input="secret\n")
        assert result.exit_code == 0, result.output
        self.broker.requests.clear()

    def kept(self) -> dict[str, str]:
        value: dict[str, str] = json.loads(self.login_file.read_text())
        return value


def synchronous_react(main: Callable[[Any], Any]) -> None:
    """Like task.react, for what never has to wait."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(main(MemoryReactorClock())).addBoth(outcome.append)
    assert outcome == [None], f"the command waits, or failed: {outcome}"
    raise SystemExit(0)
