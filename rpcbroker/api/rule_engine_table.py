"""The rows of messages to the rule chains."""

from __future__ import annotations

from functools import partial
from typing import Any

from rpcbroker.api.routes import USERS, Action, Route
from rpcbroker.api.rule_engine import RuleEngine
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess

ENTITY = "/api/rule-engine/<entity_type>/<entity_id>"


def rule_engine(to: RuleEngine) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    row = partial(
        Route,
        method="POST",
        roles=USERS,
        tag="Rule engine",
        access=KeyAccess.CALL,
        body=Any,
        raw_body=True,
        answers=Any,
        action=Action.REST_API_RULE_ENGINE_CALL,
        entity="DEVICE",
        ends_with_caller=True,
    )
    about = partial(row, errors=(e.QuestionTimedOut, e.NotFound))
    return (
        row(
            operation="handleRuleEngineRequestForUser",
            path="/api/rule-engine/",
            handler=to.of_user,
            errors=(e.QuestionTimedOut,),
        ),
        about(operation="handleRuleEngineRequestForEntity", path=ENTITY, handler=to.of_entity),
        about(
            operation="handleRuleEngineRequestForEntityWithTimeout",
            path=f"{ENTITY}/<timeout>",
            handler=to.in_time,
        ),
        about(
            operation="handleRuleEngineRequestForEntityWithQueueAndTimeout",
            path=f"{ENTITY}/<queue_name>/<timeout>",
            handler=to.in_queue,
        ),
    )
