"""The rows of rule chains, and of what their nodes recorded."""

from __future__ import annotations

from functools import partial

from rpcbroker.api.routes import ADMINS, Action, Route
from rpcbroker.api.rule_chains import Chains
from rpcbroker.api.rule_events import RuleEvents
from rpcbroker.api.rule_scripts import RuleScripts
from rpcbroker.api.rule_trials import RuleTrials
from rpcbroker.core import errors as e
from rpcbroker.rules.dry_ports import DryMessage
from rpcbroker.rules.format import ChainJSON, ChainsBody, ChainsFile, MetadataJSON, SavedMetadataJSON
from rpcbroker.rules.path_format import PathJSON
from rpcbroker.schema.common import PageJSON
from rpcbroker.schema.rules import (
    DefaultChainBody,
    EventJSON,
    EventsQuery,
    ExportQuery,
    ImportQuery,
    ImportResultJSON,
    RuleChainsQuery,
    ScriptOutputJSON,
    ScriptTestBody,
    ScriptTestQuery,
)

ONE = "/api/ruleChain/<rule_chain_id>"
EVENTS = "/api/events/<event_entity>/<rule_node_id>"


def rules(chains: Chains, events: RuleEvents, scripts: RuleScripts, trials: RuleTrials) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    row = partial(Route, roles=ADMINS, tag="Rule chains")
    get = partial(row, method="GET")
    post = partial(row, method="POST")
    change = partial(post, entity="RULE_CHAIN")
    saves = partial(change, errors=(e.NotFound, e.VersionConflict, e.AlreadyExists))
    return (
        get(
            operation="getRuleChains",
            path="/api/ruleChains",
            handler=chains.page,
            query=RuleChainsQuery,
            answers=PageJSON[ChainJSON],
        ),
        saves(
            operation="saveRuleChain",
            path="/api/ruleChain",
            handler=chains.save,
            body=ChainJSON,
            answers=ChainJSON,
            action=Action.ADDED,
        ),
        get(operation="getRuleChainById", path=ONE, handler=chains.get, answers=ChainJSON),
        row(
            operation="deleteRuleChain",
            method="DELETE",
            path=ONE,
            handler=chains.delete,
            action=Action.DELETED,
            entity="RULE_CHAIN",
        ),
        get(operation="getRuleChainMetaData", path=f"{ONE}/metadata", handler=chains.metadata, answers=MetadataJSON),
        saves(
            operation="saveRuleChainMetaData",
            path="/api/ruleChain/metadata",
            handler=chains.save_metadata,
            body=MetadataJSON,
            answers=SavedMetadataJSON,
            action=Action.UPDATED,
        ),
        change(
            operation="setRootRuleChain",
            path=f"{ONE}/root",
            handler=chains.set_root,
            answers=ChainJSON,
            action=Action.UPDATED,
        ),
        change(
            operation="saveDefaultRuleChain",
            path="/api/ruleChain/device/default",
            handler=chains.make_default,
            body=DefaultChainBody,
            answers=ChainJSON,
            action=Action.ADDED,
        ),
        get(
            operation="exportRuleChains",
            path="/api/ruleChains/export",
            handler=chains.export,
            query=ExportQuery,
            answers=ChainsFile,
        ),
        saves(
            operation="importRuleChains",
            path="/api/ruleChains/import",
            handler=chains.import_,
            query=ImportQuery,
            body=ChainsBody,
            answers=list[ImportResultJSON],
            action=Action.ADDED,
        ),
        post(
            operation="testScript",
            path="/api/ruleChain/testScript",
            handler=scripts.test,
            query=ScriptTestQuery,
            body=ScriptTestBody,
            answers=ScriptOutputJSON,
        ),
        post(
            operation="testRuleChain",
            path=f"{ONE}/test",
            handler=trials.test,
            body=DryMessage,
            answers=PathJSON,
            errors=(e.TooManyRequests,),
            ends_with_caller=True,
        ),
        get(
            operation="getRuleNodeEvents",
            path=EVENTS,
            handler=events.page,
            query=EventsQuery,
            answers=PageJSON[EventJSON],
        ),
        get(
            operation="getRuleNodeEventsByType",
            path=f"{EVENTS}/<event_type>",
            handler=events.of_type,
            query=EventsQuery,
            answers=PageJSON[EventJSON],
        ),
    )
