"""The root chain of a tenant that has made none: ThingsBoard's, with answers for what devices ask."""

from __future__ import annotations

from uuid import UUID, uuid5

from rpcbroker.core import jsontext
from rpcbroker.core.model import StoredChain
from rpcbroker.rules.nodes.scripts import LOG_SCRIPT

NAME = "Root Rule Chain"
_RULES = "org.thingsboard.rule.engine"
_LOG = {"scriptLang": "TBEL", "jsScript": LOG_SCRIPT, "tbelScript": LOG_SCRIPT}
_EACH = {"type": "ON_EVERY_MESSAGE"}


def _node(type_: str, name: str, configuration: object, x: int, y: int, version: int = 0) -> dict[str, object]:
    return {
        "type": type_,
        "name": name,
        "debugSettings": None,
        "singletonMode": False,
        "queueName": None,
        "configurationVersion": version,
        "configuration": configuration,
        "additionalInfo": {"description": "", "layoutX": x, "layoutY": y},
    }


_GRAPH = {
    "firstNodeIndex": 2,
    "nodes": [
        _node(
            f"{_RULES}.telemetry.TbMsgTimeseriesNode",
            "Save Timeseries",
            {"defaultTTL": 0, "useServerTs": False, "processingSettings": _EACH},
            824,
            156,
            1,
        ),
        _node(
            f"{_RULES}.telemetry.TbMsgAttributesNode",
            "Save Client Attributes",
            {
                "scope": "CLIENT_SCOPE",
                "notifyDevice": False,
                "sendAttributesUpdatedNotification": False,
                "updateAttributesOnlyOnValueChange": True,
                "processingSettings": _EACH,
            },
            825,
            52,
            3,
        ),
        _node(f"{_RULES}.filter.TbMsgTypeSwitchNode", "Message Type Switch", {"version": 0}, 347, 149),
        _node(f"{_RULES}.action.TbLogNode", "Log RPC from Device", _LOG, 825, 266),
        _node(f"{_RULES}.action.TbLogNode", "Log Other", _LOG, 824, 378),
        _node(f"{_RULES}.rpc.TbSendRPCRequestNode", "RPC Call Request", {"timeoutInSeconds": 60}, 825, 466),
        _node("rpcbroker.rules.OwnAnswer", "Answer RPC from Device", {}, 1125, 266),
    ],
    "connections": [
        {"fromIndex": 2, "toIndex": 4, "type": "Other"},
        {"fromIndex": 2, "toIndex": 1, "type": "Post attributes"},
        {"fromIndex": 2, "toIndex": 0, "type": "Post telemetry"},
        {"fromIndex": 2, "toIndex": 3, "type": "RPC Request from Device"},
        {"fromIndex": 2, "toIndex": 5, "type": "RPC Request to Device"},
        {"fromIndex": 3, "toIndex": 6, "type": "Success"},
    ],
    "ruleChainConnections": None,
}
GRAPH = jsontext.encode(_GRAPH)
"""Its nodes and connections, as JSON text."""


def default_chain(tenant_id: UUID) -> StoredChain:
    """The tenant's; it is not in the store until something of it is changed. Its id is always the same."""
    return StoredChain(
        id=uuid5(tenant_id, NAME), tenant_id=tenant_id, name=NAME, root=True, graph=GRAPH, created_time=0, version=0
    )
