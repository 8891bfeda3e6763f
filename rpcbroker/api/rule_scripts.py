"""Scripts of rule nodes, tried out over REST."""

from __future__ import annotations

from typing import Any

from rpcbroker.api import checks
from rpcbroker.core import jsontext
from rpcbroker.core.model import Principal
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import TENANT, Originator, RuleMessage
from rpcbroker.rules.node import Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import kind_of
from rpcbroker.rules.nodes.scripts import filtered, run, switched, transformed
from rpcbroker.rules.ports import Language, Script, ScriptRefused
from rpcbroker.rules.system import RuleSystem
from rpcbroker.rules.types import TRUE
from rpcbroker.schema.rules import ScriptOutputJSON, ScriptTestBody, ScriptTestQuery


class RuleScripts:
    """The handler of `/api/ruleChain/testScript`."""

    def __init__(self, rules: RuleSystem) -> None:
        self._rules = rules

    async def test(self, principal: Principal, *, query: ScriptTestQuery, body: ScriptTestBody) -> ScriptOutputJSON:
        """Run a script as a node would, with the message that is given; nothing else happens.

        `output` is what came of it, `error` says why nothing did.
        """
        around = self._rules.surroundings(principal.tenant_id)
        script = Script(Language(query.script_lang), body.script, tuple(body.arg_names))
        message = RuleMessage(
            id=around.new_uuid(),
            type=checks.plain("msgType", body.msg_type) or "",
            originator=Originator(TENANT, principal.tenant_id),
            data=body.msg.encode(),
            metadata=body.metadata,
            time=around.now_ms(),
        )
        place = Place(id=around.new_uuid(), name="test", around=around)
        try:
            await around.scripts.check(script)
            result = await run(around, script, message)
            return ScriptOutputJSON(_output(body.script_type, result, message, place), "")
        except (ScriptRefused, NodeFailed) as error:
            return ScriptOutputJSON("", str(error))


def _output(kind: str, result: Any, message: RuleMessage, place: Place) -> str:
    """What a node of this kind makes of what its script returned. Raises NodeFailed."""
    match kind:
        case "filter":
            return str(_labels(filtered(result, message, place)) == [TRUE]).lower()
        case "switch":
            return jsontext.encode(_labels(switched(result, message, place))).decode()
        case "string":
            if not isinstance(result, str):
                raise NodeFailed(f"The script must return a text, and returned {kind_of(result)}")
            return result
        case "json":
            return jsontext.encode(result).decode()
    made = [_shown(each.message) for each in transformed(result, message, place)]
    return jsontext.encode(made[0] if len(made) == 1 else made).decode()


def _labels(outcome: Outcome) -> list[str]:
    return [each.label for each in outcome if isinstance(each, Out)]


def _shown(message: RuleMessage) -> dict[str, Any]:
    return {"msg": message.body(), "metadata": message.metadata, "msgType": message.type}
