"""What every vendor SDK is made to do, and what it saw: played by the SDK's own Python against a real broker.

    python tb_ce.py URL PREFIX EMAIL PASSWORD

`PREFIX` begins the names of all that is made. Each line printed is JSON: `{"connect": TOKEN}` asks for a
device with this access token, which answers calls of the method `get` with `{"got": params}`; a line on
stdin says that it is there. The last line, `{"saw": ...}`, is for the test to judge.

Over 400 lines: one scenario, so that all SDKs are asked for the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

UNKNOWN = "00000000-0000-4000-8000-00000000dead"
SWITCH = "org.thingsboard.rule.engine.filter.TbMsgTypeSwitchNode"
CALL = "org.thingsboard.rule.engine.rpc.TbSendRPCRequestNode"
USER_PASSWORD, NEW_PASSWORD = "chosen by the user", "and changed again"


class Play:
    """One run. `sdk` is an adapter: the methods of one SDK under the names that are used here."""

    def __init__(self, make: Callable[[str], Any], url: str, prefix: str) -> None:
        self.make = make
        self.url = url
        self.prefix = prefix
        self.sdk = make(url)
        self.saw: dict[str, Any] = {}

    def run(self, email: str, password: str) -> dict[str, Any]:
        self.login(email, password)
        self.devices()
        self.credentials()
        self.calls()
        self.kept_calls()
        self.customers()
        self.users()
        if self.sdk.has_api_keys:
            self.api_keys()
        self.rule_chains()
        self.audit()
        self.deletions()
        self.logout()
        return self.saw

    # -- chapters

    def login(self, email: str, password: str) -> None:
        stranger = self.make(self.url)
        self.saw["wrong password"] = self.failure(lambda: (stranger.login(email, "wrong"), stranger.me()))
        self.sdk.login(email, password)
        me = self.sdk.me()
        first = self.sdk.token()
        self.sdk.refresh()
        tenant = self.sdk.tenant(key(me.tenant_id))
        self.me = me
        self.saw["me"] = {"email": me.email, "name": me.name, "authority": word(me.authority)}
        self.saw["refreshed"] = {"same token": first == self.sdk.token(), "same user": key(self.sdk.me()) == key(me)}
        self.saw["tenant"] = {"title": tenant.title, "id": key(tenant) == key(me.tenant_id)}

    def devices(self) -> None:
        plain = self.sdk.save_device(name=self.name("plain"))
        self.device = self.sdk.save_device(
            name=self.name("device"), type="meter", label="in the hall", access_token=self.name("token")
        )
        basic = self.sdk.save_device_with_credentials(
            {"name": self.name("basic"), "type": "meter"},
            {
                "credentials_type": "MQTT_BASIC",
                "credentials_id": "",
                "credentials_value": json.dumps({"clientId": self.name("client"), "userName": "u", "password": "p"}),
            },
        )
        self.made = [plain, self.device, basic]
        self.device.label = "in the cellar"
        self.device.additional_info = {"gateway": False, "description": "a cellar"}
        self.device = self.sdk.update_device(self.device)
        pages = [self.sdk.tenant_devices(page_size=2, page=page, text_search=self.prefix) for page in (0, 1)]
        ids = [key(each) for each in (basic, plain)]
        info = self.sdk.device_info(key(self.device))
        self.saw["devices"] = {
            "plain": [plain.name, plain.type, plain.version],
            "changed": [self.device.label, self.device.additional_info, self.device.version],
            "pages": [[page.total_pages, page.total_elements, page.has_next] for page in pages],
            "names": [each.name for page in pages for each in page.data],
            "sorted": [
                each.name
                for each in self.sdk.tenant_devices(
                    page_size=10, page=0, text_search=self.prefix, sort_property="name", sort_order="ASC"
                ).data
            ],
            "of type": [each.name for each in self.sdk.tenant_devices(page_size=10, page=0, type="meter").data],
            "infos": [[each.name, each.active] for each in self.infos()],
            "by id": self.sdk.device(key(plain)).name,
            "info": [info.name, info.active, info.label],
            "by name": key(self.sdk.device_by_name(self.device.name)) == key(self.device),
            "by ids": [key(each) for each in self.sdk.devices_by_ids(ids)] == ids,
            "types": sorted(each.type for each in self.sdk.device_types()),
            "unknown": self.failure(lambda: self.sdk.device(UNKNOWN)),
            "unknown name": self.failure(lambda: self.sdk.device_by_name(self.name("nobody"))),
            "name taken": self.failure(lambda: self.sdk.save_device(name=plain.name)),
        }

    def credentials(self) -> None:
        before = self.sdk.credentials(key(self.device))
        basic = self.sdk.credentials(key(self.made[2]))
        self.saw["credentials"] = {
            "token": [word(before.credentials_type), before.credentials_id, before.credentials_value],
            "basic": [word(basic.credentials_type), json.loads(basic.credentials_value)["userName"]],
            "made up": len(self.sdk.credentials(key(self.made[0])).credentials_id),
        }
        before.credentials_id = self.name("changed")
        changed = self.sdk.save_credentials(before)
        self.saw["credentials"]["changed"] = [changed.credentials_id, key(changed) == key(before), changed.version]

    def calls(self) -> None:
        device, offline = key(self.device), key(self.made[0])
        self.saw["calls"] = calls = {}
        self.ask({"connect": self.name("changed")})
        for api in ("V1", "V2"):

            def call(device_id: str, *, oneway: bool = False, to: str = api, **body: Any) -> Any:
                return self.sdk.call(to, device_id, body, oneway=oneway)

            params = {"pin": 7, "text": "ü", "list": [1, None]}
            calls[api] = {
                "one-way is answered empty": not call(device, oneway=True, method="set", params=params),
                "two-way": self.sdk.reply(call(device, method="get", params=params)),
                "offline": self.failure(lambda: call(offline, method="get", connectTimeout=0)),
                "offline, one-way": self.failure(lambda: call(offline, oneway=True, method="set", connectTimeout=0)),
                "silent": self.failure(lambda: call(device, method="never", timeout=300)),
                "unknown": self.failure(lambda: call(UNKNOWN, method="get")),
                "no method": self.failure(lambda: call(device, params=1)),
            }

    def kept_calls(self) -> None:
        """Persistent ones: of a device that is there, by both families of URLs, and of one that is not."""
        self.saw["kept calls"] = {api: self.kept_calls_by(api) for api in ("V1", "V2")} | {"errors": self.kept_errors()}
        self.kept = {
            "own": self.keep("V2", key(self.device), method="get", params=8),
            "foreign": self.keep("V2", key(self.made[0]), method="get"),
        }
        self.ended(self.kept["own"], "SUCCESSFUL")

    def kept_calls_by(self, api: str) -> dict[str, Any]:
        device, offline = key(self.device), key(self.made[0])
        params = {"pin": 8, "text": "ü"}
        two_way, one_way = (
            self.keep(api, device, oneway=oneway, method=method, params=params)
            for oneway, method in ((False, "get"), (True, "set"))
        )
        done, told = self.ended(two_way, "SUCCESSFUL"), self.ended(one_way, "DELIVERED")
        more = {"retries": 3, "additionalInfo": {"why": ["a test", None]}}
        waiting = [
            self.keep(api, offline, method=f"get{n}", params={"n": n}, timeout=(4 - n) * 60_000, **more)
            for n in range(3)
        ]
        first = self.sdk.kept(waiting[0])
        expired = str(uuid4())
        past = {"persistent": True, "expirationTime": 1, "requestUUID": expired}

        def these(**query: Any) -> list[list[Any]]:
            page = self.sdk.kept_of(offline, **{"page_size": 10, "page": 0} | query)
            methods = [each["request"]["body"]["method"] for each in page["data"]]
            return [methods, [page["totalPages"], page["totalElements"], page["hasNext"]]]

        seen: dict[str, Any] = {
            "two-way": [word(done.status), done.response, done.additional_info],
            "one-way": [word(told.status), told.response],
            "waiting": [word(first.status), first.response, first.additional_info],
            "ids": [key(each) for each in (first, first.device_id, first.tenant_id)]
            == [waiting[0], offline, key(self.me.tenant_id)],
            "times": [first.expiration_time - first.created_time, type(first.created_time).__name__],
            "request": first.request["body"]
            | {each: first.request[each] for each in ("oneway", "persisted", "retries")},
            "expired": self.failure(lambda: self.sdk.call(api, offline, {"method": "late"} | past, oneway=False)),
            "kept all the same": word(self.sdk.kept(expired).status),
            "pages": [these(page_size=2, page=page, sort_property="createdTime") for page in (0, 1)],
            "newest first": these(sort_property="createdTime", sort_order="DESC"),
            "by expiration": these(sort_property="expirationTime", sort_order="ASC", rpc_status="QUEUED"),
            "queued": these(rpc_status="QUEUED", sort_property="createdTime"),
            "expired ones": these(rpc_status="EXPIRED"),
            "failed ones": these(rpc_status="FAILED"),
            "its id": self.sdk.kept_of(offline, page_size=1, page=0, rpc_status="EXPIRED")["data"][0]["id"]
            == {"entityType": "RPC", "id": expired},
        }
        for each in (waiting[1], expired):
            self.sdk.forget(each)
        seen["deleted"] = [
            self.failure(lambda: self.sdk.kept(waiting[1])),
            self.failure(lambda: self.sdk.forget(expired)),
        ]
        seen["left"] = these(sort_property="createdTime")
        for each in (waiting[0], waiting[2]):
            self.sdk.forget(each)
        return seen

    def kept_errors(self) -> dict[str, Any]:
        device = key(self.device)

        def listed(device_id: str = device, **query: Any) -> dict[str, Any]:
            return self.failure(lambda: self.sdk.kept_of(device_id, **{"page_size": 10, "page": 0} | query))

        return {
            "unknown": self.failure(lambda: self.sdk.kept(UNKNOWN)),
            "no UUID": self.failure(lambda: self.sdk.kept("nonsense")),
            "delete unknown": self.failure(lambda: self.sdk.forget(UNKNOWN)),
            "of unknown": listed(UNKNOWN),
            "status": listed(rpc_status="LOST"),
            "deleted ones": listed(rpc_status="DELETED"),
            "order": listed(sort_property="createdTime", sort_order="UP"),
            "property": listed(sort_property="color"),
            "page size": listed(page_size=0),
        }

    def customers(self) -> None:
        customer = self.sdk.save_customer(title=self.name("customer"), city="Zwolle")
        customer.phone = "+31 1"
        self.customer = customer = self.sdk.update_customer(customer)
        number = key(customer)
        assigned = self.sdk.assign(number, key(self.device))
        info = self.sdk.customer_device_infos(number, page_size=10, page=0).data
        self.saw["customers"] = {
            "saved": [customer.title, customer.name, customer.city, customer.phone, customer.version],
            "list": self.name("customer") in [each.title for each in self.sdk.customers(page_size=100, page=0).data],
            "by id": self.sdk.customer(number).title,
            "short": self.sdk.short_customer(number),
            "by title": key(self.sdk.customer_by_title(customer.title)) == number,
            "assigned": key(assigned.customer_id) == number,
            "devices": [each.name for each in self.sdk.customer_devices(number, page_size=10, page=0).data],
            "infos": [[each.name, type(each.active).__name__] for each in info],
            "unknown": self.failure(lambda: self.sdk.customer(UNKNOWN)),
        }

    def users(self) -> None:
        number = key(self.customer)
        user = self.sdk.save_user(email=f"{self.prefix}@example.org", customer_id=number, first_name="Ada")
        link = self.sdk.activation_link(key(user))
        token = parse_qs(urlsplit(link).query)["activateToken"][0]
        pair = self.sdk.activate(token, USER_PASSWORD)
        customer_user = self.make(self.url)
        customer_user.login(user.email, USER_PASSWORD)
        me = customer_user.me()
        self.saw["users"] = seen = {
            "saved": [user.email, word(user.authority), user.first_name, key(user.customer_id) == number],
            "link": link.startswith(f"{self.url}/api/noauth/activate?"),
            "pair": [bool(pair.token), bool(pair.refresh_token)],
            "me": [me.email, word(me.authority)],
            "sees": [each.name for each in customer_user.customer_devices(number, page_size=10, page=0).data],
            "calls": customer_user.reply(
                customer_user.call("V2", key(self.device), {"method": "get", "params": 1}, oneway=False)
            ),
            "kept calls": [
                word(customer_user.kept(self.kept["own"]).status),
                self.failure(lambda: customer_user.kept(self.kept["foreign"])),
                self.failure(lambda: customer_user.kept_of(key(self.made[0]), page_size=10, page=0)),
                self.failure(lambda: customer_user.forget(self.kept["own"])),
            ],
            "foreign": self.failure(lambda: customer_user.device(key(self.made[0]))),
            "forbidden": self.failure(lambda: customer_user.delete_device(key(self.device))),
            "of customer": [each.email for each in self.sdk.customer_users(number, page_size=10, page=0).data],
            "all": user.email in [each.email for each in self.sdk.users(page_size=100, page=0).data],
            "by id": self.sdk.user(key(user)).email,
        }
        changed = customer_user.change_password(USER_PASSWORD, NEW_PASSWORD)
        again = self.make(self.url)
        again.login(user.email, NEW_PASSWORD)
        seen["changed password"] = [bool(changed), again.me().email]
        seen["old session"] = self.failure(customer_user.me)
        self.sdk.enable_user(key(user), False)
        seen["disabled"] = self.failure(again.me)
        self.sdk.enable_user(key(user), True)
        again.login(user.email, NEW_PASSWORD)
        seen["enabled"] = again.me().email
        self.sdk.delete_user(key(user))
        seen["deleted"] = [self.failure(again.me), self.failure(lambda: self.sdk.user(key(user)))]

    def api_keys(self) -> None:
        made = self.sdk.save_api_key(description=self.name("key"), user_id=key(self.me))
        program = self.make(self.url)
        program.api_key_login(made.value)
        self.saw["API keys"] = seen = {
            "made": [made.description, made.enabled, made.expired, bool(made.value)],
            "me": program.me().email,
            "device": program.device(key(self.device)).name,
            "call": program.reply(program.call("V1", key(self.device), {"method": "get", "params": 2}, oneway=False)),
            "forbidden": self.failure(lambda: program.save_api_key(description="more", user_id=key(self.me))),
        }
        listed = self.sdk.api_keys_of(key(self.me), page_size=100, page=0).data
        seen["listed"] = [each.description for each in listed if key(each) == key(made)]
        seen["off"] = [self.sdk.enable_api_key(key(made), False).enabled, self.failure(program.me)]
        seen["on"] = [self.sdk.enable_api_key(key(made), True).enabled, program.me().email]
        seen["described"] = self.sdk.describe_api_key(key(made), "described").description
        self.sdk.delete_api_key(key(made))
        seen["deleted"] = self.failure(program.me)

    def rule_chains(self) -> None:
        """The device's calls go through a chain of our own meanwhile, and through the default one again at the end."""
        (default,) = (each for each in self.sdk.chains(page_size=100, page=0).data if each.root)
        made = self.sdk.save_chain(name=self.name("chain"), type="CORE", additional_info={"description": "d"})
        nodes = [
            {"type": SWITCH, "name": "Switch", "configuration": {"version": 0}, "configuration_version": 0},
            {
                "type": CALL,
                "name": "Call",
                "configuration": {"timeoutInSeconds": 60},
                "additional_info": {"layoutX": 5, "layoutY": 6, "description": "calls"},
            },
        ]
        graph = self.sdk.save_graph(made, nodes, [(0, 1, "RPC Request to Device")])
        graph.nodes[1].name = "Call the device"
        self.sdk.record(graph.nodes[1])
        again = self.sdk.update_graph(graph)
        read = self.sdk.graph(key(made))
        chain = self.sdk.chain(key(made))
        rooted = self.sdk.set_root(key(made))
        answer = self.sdk.reply(self.sdk.call("V2", key(self.device), {"method": "get", "params": 3}, oneway=False))
        events = self.sdk.node_events(key(read.nodes[1]), key(self.me.tenant_id)).data
        stale = self.failure(lambda: self.sdk.update_graph(graph))
        imported = self.sdk.import_chains(self.sdk.export_chains())
        like = self.sdk.chain_like_the_default(self.name("like the default"))
        script = {"script": "return msg.t > 1;", "scriptType": "filter", "argNames": ["msg", "metadata", "msgType"]}
        script |= {"msg": '{"t":2}', "metadata": {}, "msgType": "POST_TELEMETRY_REQUEST"}
        tried = self.sdk.try_script(script)
        root_kept = self.failure(lambda: self.sdk.delete_chain(key(made)))
        self.sdk.set_root(key(default))
        for each in (made, like):
            self.sdk.delete_chain(key(each))
        self.saw["rule chains"] = {
            "default": [default.name, default.root, len(self.sdk.graph(key(default)).nodes) > 5],
            "made": [made.name, word(made.type), made.root, made.additional_info],
            "ids stay": [key(each) for each in again.nodes] == [key(each) for each in graph.nodes],
            "nodes": [[each.name, each.type, each.configuration, each.additional_info] for each in read.nodes],
            "connections": [[each.from_index, each.to_index, each.type] for each in read.connections],
            "first": key(chain.first_rule_node_id) == key(read.nodes[0]),
            "versions": [made.version, graph.version, read.version],
            "root": rooted.root,
            "call": answer,
            "events": [each.body["type"] for each in events],
            "stale": stale,
            "imported": sorted([each.rule_chain_name, each.updated] for each in imported),
            "like the default": like.name,
            "script": tried,
            "the root is kept": root_kept,
            "deleted": self.failure(lambda: self.sdk.chain(key(made))),
            "unknown": self.failure(lambda: self.sdk.chain(UNKNOWN)),
        }

    def audit(self) -> None:
        """Entries are written in batches: the newest one says that the others are there."""
        customer = key(self.customer)
        while "CREDENTIALS_UPDATED" not in (done := self.actions("customer", customer)):
            time.sleep(0.1)
        calls = self.sdk.audit("all", page_size=100, page=0, action_types="RPC_CALL", sort_order="DESC").data
        mine = [each for each in calls if each.entity_name == self.device.name]
        self.saw["audit"] = {
            "device": self.actions("entity", "DEVICE", key(self.device)),
            "calls": sorted({(each.user_name, word(each.action_status)) for each in mine}),
            "user": self.actions("user", key(self.me)),
            "customer": done,
        }

    def deletions(self) -> None:
        unassigned = self.sdk.unassign(key(self.device))
        self.saw["unassigned"] = key(unassigned.customer_id) == "13814000-1dd2-11b2-8080-808080808080"
        self.sdk.delete_customer(key(self.customer))
        for each in self.made:
            self.sdk.delete_device(key(each))
        self.saw["deleted"] = {
            "device": self.failure(lambda: self.sdk.device(key(self.device))),
            "again": self.failure(lambda: self.sdk.delete_device(key(self.device))),
            "customer": self.failure(lambda: self.sdk.customer(key(self.customer))),
            "calls": [self.failure(lambda rpc_id=each: self.sdk.kept(rpc_id)) for each in self.kept.values()],
            "left": self.sdk.tenant_devices(page_size=10, page=0, text_search=self.prefix).total_elements,
        }

    def logout(self) -> None:
        self.sdk.logout()
        self.saw["logged out"] = self.failure(self.sdk.me)

    # -- inside

    def name(self, what: str) -> str:
        return f"{self.prefix}-{what}"

    def keep(self, api: str, device_id: str, *, oneway: bool = False, **body: Any) -> str:
        """The id of a persistent call."""
        rpc_id: str = self.sdk.reply(self.sdk.call(api, device_id, {"persistent": True} | body, oneway=oneway))["rpcId"]
        return rpc_id

    def ended(self, rpc_id: str, status: str) -> Any:
        """A persistent call, once it is in this state."""
        while word((rpc := self.sdk.kept(rpc_id)).status) != status:
            time.sleep(0.02)
        return rpc

    def infos(self) -> list[Any]:
        found: list[Any] = self.sdk.device_infos(page_size=10, page=0, text_search=self.prefix).data
        return found

    def actions(self, *which: str) -> list[str]:
        """What was done, each once."""
        return sorted({word(each.action_type) for each in self.sdk.audit(*which, page_size=1000, page=0).data})

    def ask(self, what: dict[str, str]) -> None:
        print(json.dumps(what), flush=True)
        sys.stdin.readline()

    def failure(self, do: Callable[[], Any]) -> dict[str, Any]:
        """The SDK's exception as an application gets it: the status, and of the body what does not change."""
        try:
            do()
        except self.sdk.ApiException as error:
            body = json.loads(error.body)
            return {
                "status": error.status,
                "same status": body["status"] == error.status,
                "code": body["errorCode"],
                "reason": body.get("reason"),
                "explained": bool(body["message"]),
            }
        return {"status": 200}


def key(of: Any) -> str:
    """The UUID of an entity, or of an id."""
    inner = getattr(of, "id", of)
    return str(getattr(inner, "id", inner))


def word(of: Any) -> str:
    """An enum of an SDK, or a plain text."""
    return str(getattr(of, "value", of))


def main(make: Callable[[str], Any], distribution: str) -> None:
    url, prefix, email, password = sys.argv[1:]
    saw = {"version": version(distribution)} | Play(make, url, prefix).run(email, password)
    print(json.dumps({"saw": saw}), flush=True)
