"""What schemathesis is told of the town that it fuzzes: some of the ids that it makes up are real ones."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import schemathesis

IDS: dict[str, list[str]] = json.loads(os.environ["TOWN_IDS"])
KEPT = frozenset(json.loads(os.environ["TOWN_KEPT"]))
"""`Town.ids` and `Town.kept`."""
KINDS = {
    "device_id": ("device",),
    "customer_id": ("customer",),
    "user_id": ("user",),
    "tenant_id": ("tenant",),
    "api_key_id": ("key",),
    "provision_key_id": ("provision_key",),
    "owner_id": ("customer", "tenant"),
    "entity_id": ("device",),
    "rpc_id": ("rpc",),
    "rule_chain_id": ("rule_chain",),
    "rule_node_id": ("rule_node",),
}
BODIES = {
    "DeviceBody": ("DEVICE", "device"),
    "CustomerBody": ("CUSTOMER", "customer"),
    "ApiKeyBody": ("API_KEY", "key"),
    "TenantBody": ("TENANT", "tenant"),
}
"""The `id` of these makes a request a change; users are not in it: changing one ends the user's sessions."""
CHANGING = {"user", "apiKey", "ruleChain", "credentials"}
"""What is posted under a path with one of these words would change what stays."""


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Parameters may be any UUID, or one of those that there are."""
    for methods in raw_schema["paths"].values():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                kinds = KINDS.get(parameter["name"], ())
                known = [each for kind in kinds for each in IDS[kind] if method == "get" or each not in KEPT]
                if known:
                    parameter["schema"] = {"anyOf": [{"enum": known}, parameter["schema"]]}
    schemas = raw_schema["components"]["schemas"]
    for name, (entity_type, kind) in BODIES.items():
        known_id = copy.deepcopy(schemas["EntityId"])
        known_id["properties"] = {"entityType": {"const": entity_type}, "id": {"enum": IDS[kind]}}
        member = schemas[name]["properties"]["id"]
        member["anyOf"] = [known_id, *member["anyOf"]]


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    """What stays may be read, called and assigned; ids are also learnt from answers, and must not hit it otherwise."""
    words = {word for part in case.path.split("/") for word in part.split("-")}
    if case.method == "GET" or (case.method == "POST" and not CHANGING & words):
        return True
    given = json.dumps([dict(case.path_parameters or {}), case.body], default=str)
    return not any(each in given for each in KEPT)
