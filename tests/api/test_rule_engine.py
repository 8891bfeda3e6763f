"""Messages of applications to the rule chains over REST."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, device
from rest import Rest, leave
from rule_world import CALL, RULES, SWITCH, graph
from twisted.internet.defer import Deferred

from rpcbroker.core.model import Authority
from rpcbroker.core.settings import RpcSettings, Settings
from rpcbroker.rules.engine import Passed

RESPOND = f"{RULES}.rest.TbSendRestApiCallReplyNode"
ECHO = graph([(SWITCH, "Switch", {}), (RESPOND, "Respond", {})], (0, 1, "REST API request"))
CALLS = graph(
    [(SWITCH, "Switch", {}), (CALL, "Call", {}), (RESPOND, "Respond", {})],
    (0, 1, "REST API request"),
    (1, 2, "Success"),
)
SILENT = graph([(SWITCH, "Switch", {})])
OF_USER = "/api/rule-engine/"


@pytest.fixture
def world() -> Rest:
    made = Rest()
    for each in (device(101, customer_id=CUSTOMER), device(200, tenant=OTHER_TENANT)):
        made.add(each)
    made.put(ECHO)
    return made


def of(number: int = 100, *more: object) -> str:
    return "/".join([f"/api/rule-engine/DEVICE/{UUID(int=number)}", *map(str, more)])


def watched(world: Rest) -> list[Passed]:
    """What passes the switch from now on."""
    passed: list[Passed] = []
    world.rules.engine.watches = lambda node: node.name == "Switch"
    world.rules.engine.tell = passed.append
    return passed


@pytest.mark.parametrize("path", [of(), of(100, 5000), of(100, "HighPriority", 5000), OF_USER])
@pytest.mark.parametrize("body", [b'{"a":[1,"\xc3\xb6"]}', b"[1]", b"null", b' "text" '])
@pytest_twisted.ensureDeferred
async def test_the_answer_is_what_a_node_replies(world: Rest, path: str, body: bytes) -> None:
    status, answer, headers = await world.ask("POST", path, body, headers={"Content-Type": "text/plain"})
    assert status == 200
    assert answer == json.loads(body)
    assert headers.getRawHeaders("content-type") == ["application/json"]


@pytest_twisted.ensureDeferred
async def test_the_message_says_what_it_is_about_and_until_when(world: Rest) -> None:
    passed = watched(world)
    token = world.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    for path, more in ((of(100, 2500), {}), (of(101), {"token": token}), (OF_USER, {})):
        await world.ok("POST", path, {"x": 1}, **more)
    about, of_customer, of_user = (each.came for each in passed)
    assert (about.type, about.originator, about.data) == ("REST_API_REQUEST", ("DEVICE", UUID(int=100)), b'{"x":1}')
    assert about.metadata.keys() >= {"serviceId", "requestUUID", "expirationTime"}
    assert about.metadata["expirationTime"] == str(EPOCH_MS + 2500)
    assert of_customer.metadata["expirationTime"] == str(EPOCH_MS + 10_000)
    assert of_user.originator == ("USER", world.user.id)


@pytest_twisted.ensureDeferred
async def test_a_chain_may_call_the_device_before_it_answers(world: Rest) -> None:
    world.put(CALLS)
    link = world.link(reply=b'{"on":true}')
    assert await world.ok("POST", of(), {"method": "get", "params": "{}"}) == {"on": True}
    assert [call.method for call in link.calls] == ["get"]


@pytest_twisted.ensureDeferred
async def test_a_request_that_no_rule_answers_is_told_so_at_once(world: Rest) -> None:
    world.put(SILENT)
    status, answer, _ = await world.ask("POST", of(100, 60_000), {})
    assert (status, answer["reason"]) == (408, "NO_HANDLER")
    assert "rest call reply" in answer["hint"]
    assert world.clock.seconds() == 0


@pytest.mark.parametrize(("path", "seconds"), [(of(), 10), (of(100, 3000), 3), (of(100, 10**15), 30)])
@pytest_twisted.ensureDeferred
async def test_a_request_waits_as_long_as_it_says_and_the_server_allows(world: Rest, path: str, seconds: int) -> None:
    world.rest.reconfigure(Settings(rpc=RpcSettings(max_timeout=30)))
    world.put(CALLS)
    world.link()
    answers: list[Any] = []
    asking = Deferred.fromCoroutine(world.ask("POST", path, {"method": "get", "params": None}))
    asking.addBoth(answers.append)
    world.clock.advance(seconds - 0.5)
    world.treq.flush()
    assert answers == []
    world.clock.advance(1)
    world.treq.flush()
    ((status, answer, _),) = answers
    assert status == 408
    assert answer["reason"] == "NO_REPLY" or "TIMEOUT" in answer["message"], "the call to the device ends then, too"


@pytest_twisted.ensureDeferred
async def test_who_leaves_is_not_waited_for_any_more(world: Rest) -> None:
    world.put(CALLS)
    world.link()
    leave(world, "POST", of(), {"method": "get", "params": None})
    assert len(world.rules.rest_requests) == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (of(), b"{", 400, "Invalid request body"),
        (of(), b"", 400, "Invalid request body"),
        (of(100, "soon"), b"{}", 400, "timeout must be a number of milliseconds"),
        (of(100, -1), b"{}", 400, "timeout must be a number of milliseconds"),
        (f"/api/rule-engine/ASSET/{UUID(int=100)}", b"{}", 400, "Only a DEVICE"),
        ("/api/rule-engine/DEVICE/x", b"{}", 400, "Invalid UUID"),
        (of(200), b"{}", 404, "is not found"),
        (of(999), b"{}", 404, "is not found"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_asked_is_refused_and_passes_no_chain(
    world: Rest, path: str, body: bytes, status: int, says: str
) -> None:
    passed = watched(world)
    got, message = await world.refused("POST", path, body)
    assert (got, says in message) == (status, True), message
    assert passed == []


@pytest_twisted.ensureDeferred
async def test_customers_ask_about_their_devices_and_system_administrators_about_none(world: Rest) -> None:
    token = world.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
    assert await world.ok("POST", of(101), {}, token=token) == {}
    assert (await world.refused("POST", of(100), {}, token=token))[0] == 404
    for path in (of(100), OF_USER):
        assert (await world.refused("POST", path, {}, token=world.sys_token))[0] == 403


KEYS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "to read": ({"access": "READ"}, set()),
    "to call": ({"access": "CALL"}, {of(100), of(101), OF_USER}),
    "to manage": ({"access": "MANAGE"}, {of(100), of(101), OF_USER}),
    "to call a device": ({"access": "CALL", "deviceIds": [str(UUID(int=101))]}, {of(101)}),
    "to call a method": ({"access": "CALL", "methods": ["get*"]}, set()),
    "to call one way": ({"access": "CALL", "twoway": False}, set()),
}


@pytest.mark.parametrize("name", KEYS)
@pytest_twisted.ensureDeferred
async def test_keys_send_messages_about_what_they_may_call_in_any_way(world: Rest, name: str) -> None:
    scope, allowed = KEYS[name]
    key = f"ApiKey {(await world.ok('POST', '/api/apiKey', {'description': 'k', 'scope': scope}))['value']}"
    for path in (of(100), of(101), OF_USER):
        status, _, _ = await world.ask("POST", path, {}, token=key)
        assert (status == 200) is (path in allowed), path
        assert status in (200, 403, 404)


@pytest_twisted.ensureDeferred
async def test_the_audit_log_says_who_asked_about_what(world: Rest) -> None:
    await world.ok("POST", of(), {"secret": 1})
    await world.refused("POST", of(200), {})
    (about,) = world.audit(entity=("DEVICE", UUID(int=100)))
    assert (about.action, about.entity_name) == ("REST_API_RULE_ENGINE_CALL", "device-100")
    assert "secret" not in str(about.data)
    await world.ok("POST", OF_USER, {})
    assert [each.action for each in world.audit(entity=("USER", world.user.id))] == ["REST_API_RULE_ENGINE_CALL"]


@pytest_twisted.ensureDeferred
async def test_payloads_are_in_the_audit_log_if_the_settings_say_so() -> None:
    world = Rest(audit={"payloads": True})
    world.put(ECHO, tenant_id=TENANT)
    await world.ok("POST", of(), {"x": 1})
    (about,) = world.audit(entity=("DEVICE", UUID(int=100)))
    assert about.data["request"] == {"x": 1}
