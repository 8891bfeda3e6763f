"""A broker with people and things in it, for those who try what its API takes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from daemon import EMAIL, PASSWORD, Daemon
from paho_device import callable_device, end

SYSTEM = "13814000-1dd2-11b2-8080-808080808080"
ROOT = "root@example.org"
NOBODY = "nobody"
ROLES = ("TENANT_ADMIN", "SYS_ADMIN", "CUSTOMER_USER", "API key", NOBODY)
AUTHORIZATION = "X-Authorization"


class Heard(NamedTuple):
    """An answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Town:
    """The daemon, who may be asked as, what there is, and a device that answers every call.

    `authorization` is role -> header, with none for nobody. `ids` is kind -> UUIDs. What is in `kept`
    must stay as it is: the first of each kind, and whom one asks as.
    """

    def __init__(self, directory: Path, **more: str) -> None:
        brief = {f"RPCBROKER_RPC_{which}_TIMEOUT": "20ms" for which in ("DEFAULT", "MIN", "MAX")}
        self.daemon = Daemon(directory, **brief, **more)
        self.authorization: dict[str, str] = {}
        try:
            self._settle()
        except BaseException:
            self.daemon.stop()
            raise

    def _settle(self) -> None:
        self.authorization["first"] = self._login(EMAIL)
        self._copy_user(EMAIL, ROOT)
        self.authorization["SYS_ADMIN"] = self._login(ROOT)
        me = self._get("first", "/api/auth/user")
        customer = {"entityType": "CUSTOMER", "id": self._made("first", "/api/customer", title="stays")}
        self.ids = {
            "tenant": [me["tenantId"]["id"], *self._several("SYS_ADMIN", "/api/tenant", "title")],
            "customer": [customer["id"], *self._several("first", "/api/customer", "title")],
            "device": [
                self._made("first", "/api/device?accessToken=STAYS", name="stays"),
                *self._several("first", "/api/device", "name"),
            ],
        }
        for device_id in self.ids["device"][:2]:
            self._do("first", "POST", f"/api/customer/{customer['id']}/device/{device_id}")
        theirs = {"authority": "CUSTOMER_USER", "customerId": customer}
        self.authorization["CUSTOMER_USER"] = self._activated("customer@example.org", **theirs)
        self.authorization["TENANT_ADMIN"] = self._activated("admin2@example.org", authority="TENANT_ADMIN")
        self.ids["user"] = [me["id"]["id"], *self._several("first", "/api/user", "email", "@example.org", **theirs)]
        self.ids["provision_key"] = self._several("first", "/api/provisionKey", "provisionDeviceKey")
        key = self._do("TENANT_ADMIN", "POST", "/api/apiKey", {"description": "stays"})
        self.authorization["API key"] = f"ApiKey {key['value']}"
        self.ids["key"] = [key["id"]["id"], *self._several("TENANT_ADMIN", "/api/apiKey", "description")]
        self.ids["rpc"] = [self._kept_call(f"kept {n}") for n in range(4)]
        self.kept = [of_a_kind[0] for of_a_kind in self.ids.values()]
        self.ids |= self._rule_chains()
        self.kept += self.ids["rule_chain"]
        self.kept += [json.loads(self.ask(role, "GET", "/api/auth/user").body)["id"]["id"] for role in ROLES[:-1]]
        self._device = callable_device(self.daemon.mqtt_port, "STAYS", lambda call: {"answer": call["method"]})

    def send(self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]) -> Heard:
        """One request, as it is."""
        with closing(HTTPConnection(urlsplit(self.daemon.http).netloc, timeout=30)) as connection:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Heard(response.status, found, response.read())

    def ask(self, role: str, method: str, path: str, body: Any = None) -> Heard:
        """As one of the roles, in JSON."""
        headers = {"Content-Type": "application/json"}
        if role in self.authorization:
            headers[AUTHORIZATION] = self.authorization[role]
        return self.send(method, path, body=None if body is None else json.dumps(body).encode(), headers=headers)

    def check_well(self) -> None:
        """The device still answers, and nothing bad is in the log."""
        path = f"/api/rpc/twoway/{self.ids['device'][0]}"
        assert self._do("first", "POST", path, {"method": "well?"}) == {"answer": "well?"}
        lines = self.daemon.log.read_text().splitlines()
        bad = [line for line in lines if "#error]" in line or "#critical]" in line or "Traceback" in line]
        assert not bad, "\n".join(bad[:20])

    def stop(self) -> None:
        end(self._device)
        self.daemon.stop()

    # -- inside

    def _do(self, role: str, method: str, path: str, body: Any = None) -> Any:
        heard = self.ask(role, method, path, body)
        assert heard.status == 200, heard
        if not heard.headers.get("content-type", "").startswith("application/json"):
            return heard.body.decode()
        return json.loads(heard.body)

    def _get(self, role: str, path: str) -> Any:
        return self._do(role, "GET", path)

    def _made(self, role: str, path: str, **body: Any) -> str:
        made: str = self._do(role, "POST", path, body)["id"]["id"]
        return made

    def _kept_call(self, method: str) -> str:
        body = {"method": method, "persistent": True, "timeout": 10**9}
        kept: str = self._do("first", "POST", f"/api/rpc/twoway/{self.ids['device'][0]}", body)["rpcId"]
        return kept

    def _rule_chains(self) -> dict[str, list[str]]:
        """The root chain, without which no call comes to a device, and another one, whose node records."""
        root = self._get("first", "/api/ruleChains?pageSize=1")["data"][0]["id"]["id"]
        chain_id = self._made("first", "/api/ruleChain", name="stays")
        node = {"type": "org.thingsboard.rule.engine.filter.TbMsgTypeSwitchNode", "name": "n", "debugMode": True}
        of = {"entityType": "RULE_CHAIN", "id": chain_id}
        graph = {"ruleChainId": of, "firstNodeIndex": 0, "nodes": [node], "connections": []}
        saved = self._do("first", "POST", "/api/ruleChain/metadata", graph)
        return {"rule_chain": [root, chain_id], "rule_node": [saved["nodes"][0]["id"]["id"]]}

    def _several(self, role: str, path: str, member: str, suffix: str = "", **more: Any) -> list[str]:
        return [self._made(role, path, **{member: f"{member}{n}{suffix}"}, **more) for n in range(4)]

    def _login(self, email: str) -> str:
        return (
            f"Bearer {self._do(NOBODY, 'POST', '/api/auth/login', {'username': email, 'password': PASSWORD})['token']}"
        )

    def _activated(self, email: str, **user: Any) -> str:
        user_id = self._made("first", "/api/user", email=email, **user)
        link: str = self._get("first", f"/api/user/{user_id}/activationLink")
        body = {"activateToken": link.partition("activateToken=")[2], "password": PASSWORD}
        self._do(NOBODY, "POST", "/api/noauth/activate", body)
        return self._login(email)

    def _copy_user(self, email: str, copy: str) -> None:
        """The first system administrator has the password of the first administrator."""
        with closing(sqlite3.connect(self.daemon.state / "rpcbroker.sqlite", timeout=10)) as store, store:
            store.row_factory = sqlite3.Row
            row = dict(store.execute("SELECT * FROM user_account WHERE email_key = ?", (email,)).fetchone())
            row |= {"id": uuid4().hex, "email": copy, "email_key": copy, "authority": "SYS_ADMIN"}
            row["tenant_id"] = SYSTEM.replace("-", "")
            store.execute(f"INSERT INTO user_account VALUES ({','.join('?' * len(row))})", tuple(row.values()))
