"""Nodes that run a script: what it returns says what becomes of the message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import MAX_MESSAGES, body_of, kind_of, several
from rpcbroker.rules.ports import Language, RuleSurroundings, Script, ScriptFailed
from rpcbroker.rules.templates import text_of
from rpcbroker.rules.types import FAILURE, FALSE, SUCCESS, TRUE

LOG_SCRIPT = (
    "return '\\nIncoming message:\\n' + JSON.stringify(msg) + '\\nIncoming metadata:\\n' + JSON.stringify(metadata);"
)
_USUAL = {LOG_SCRIPT: "\n", LOG_SCRIPT.replace("'\\nIncoming message", "'Incoming message"): ""}
"""What exported chains log mostly, and what it begins with: nobody has to run it to know what it returns."""


class ScriptConfiguration(msgspec.Struct, rename="camel"):
    """A script. Exported chains have one for each language; older ones have only `jsScript`."""

    script_lang: Language | None = None
    js_script: str | None = None
    tbel_script: str | None = None

    def __post_init__(self) -> None:
        if not (self.source or "").strip():
            raise ValueError(f"there is no {'tbelScript' if self.script_lang is Language.TBEL else 'jsScript'}")

    @property
    def source(self) -> str | None:
        return self.tbel_script if self.script_lang is Language.TBEL else self.js_script

    @property
    def script(self) -> Script:
        return Script(self.script_lang or Language.JS, self.source or "")


def run(around: RuleSurroundings, script: Script, message: RuleMessage) -> Deferred[Any]:
    """What the script returns for the message. Raises NodeFailed, and fails with it."""
    values = (body_of(message), dict(message.metadata), message.type)
    return around.scripts.run(around.tenant_id, script, values).addErrback(_failed)


def _failed(failure: Failure) -> NoReturn:
    failure.trap(ScriptFailed)
    raise NodeFailed(str(failure.value)) from None


class ScriptNode:
    """Runs its script, and goes on as `meaning` says of what it returned."""

    def __init__(
        self,
        configuration: ScriptConfiguration,
        place: Place,
        *,
        meaning: Callable[[Any, RuleMessage, Place], Outcome],
    ) -> None:
        self._script = configuration.script
        self._place = place
        self._meaning = meaning

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        ran = run(self._place.around, self._script, message)
        return ran.addCallback(self._meaning, message, self._place)


def filtered(result: Any, message: RuleMessage, place: Place) -> Outcome:
    """What a filter makes of what its script returned. Raises NodeFailed."""
    if type(result) is not bool:
        raise NodeFailed(f"The script must return true or false, and returned {kind_of(result)}")
    return (Out(TRUE if result else FALSE, message),)


def switched(result: Any, message: RuleMessage, place: Place) -> Outcome:
    """What a switch makes of what its script returned. Raises NodeFailed."""
    labels = [result] if isinstance(result, str) else result
    if type(labels) is not list or not all(isinstance(label, str) for label in labels):
        raise NodeFailed(f"The script must return an array of labels, and returned {_with_members(result)}")
    if len(labels) > MAX_MESSAGES:
        raise NodeFailed(f"The script returned more than {MAX_MESSAGES:,} labels")
    return tuple(Out(label, message) for label in dict.fromkeys(labels))


def _with_members(result: Any) -> str:
    if type(result) is not list:
        return kind_of(result)
    return f"one with {next(kind_of(each) for each in result if not isinstance(each, str))}"


def transformed(result: Any, message: RuleMessage, place: Place) -> Outcome:
    """What a transformation makes of what its script returned. Raises NodeFailed."""
    made = result if type(result) is list else [result]
    return several([changed(each, message) for each in made[: MAX_MESSAGES + 1]], place.around.new_uuid)


def changed(result: Any, message: RuleMessage) -> RuleMessage:
    """The message as `{"msg":..., "metadata":..., "msgType":...}` has it: what is missing stays as it was.

    Values of the metadata become texts, and those that are null are left out. Raises NodeFailed.
    """
    if type(result) is not dict:
        raise NodeFailed(
            f"The script must return an object with msg, metadata and msgType, and returned {kind_of(result)}"
        )
    metadata, type_ = result.get("metadata"), result.get("msgType")
    if metadata is not None and type(metadata) is not dict:
        raise NodeFailed(f"metadata must be an object, and the script returned {kind_of(metadata)} there")
    if type_ is not None and not isinstance(type_, str):
        raise NodeFailed(f"msgType must be a text, and the script returned {kind_of(type_)} there")
    return replace(
        message,
        type=type_ or message.type,
        data=jsontext.encode(result["msg"]) if "msg" in result else message.data,
        metadata=message.metadata if metadata is None else texts_of(metadata),
    )


def texts_of(metadata: dict[str, Any]) -> dict[str, str]:
    """Metadata as messages have them."""
    return {key: text_of(value) for key, value in metadata.items() if value is not None}


class LogNode:
    """Writes to the log, and lets the message go on as it came."""

    def __init__(self, configuration: ScriptConfiguration, place: Place) -> None:
        self._script = configuration.script
        self._start = _USUAL.get(configuration.script.source.strip())
        self._place = place

    def __call__(self, message: RuleMessage) -> Outcome | Deferred[Outcome]:
        if self._start is None:
            return run(self._place.around, self._script, message).addCallback(self._log, message)
        data, metadata = message.data.decode(errors="replace"), jsontext.encode(message.metadata).decode()
        text = f"{self._start}Incoming message:\n{data}\nIncoming metadata:\n{metadata}"
        self._place.around.log(self._place.name, text, True)
        return (Out(SUCCESS, message),)

    def _log(self, result: Any, message: RuleMessage) -> Outcome:
        if not isinstance(result, str):
            raise NodeFailed(f"The script must return a text, and returned {kind_of(result)}")
        self._place.around.log(self._place.name, result, False)
        return (Out(SUCCESS, message),)


def _script(configuration: ScriptConfiguration) -> tuple[Script, ...]:
    return (configuration.script,)


def _unusual(configuration: ScriptConfiguration) -> tuple[Script, ...]:
    return () if configuration.script.source.strip() in _USUAL else (configuration.script,)


FILTER = NodeType(
    name="org.thingsboard.rule.engine.filter.TbJsFilterNode",
    configuration=ScriptConfiguration,
    make=partial(ScriptNode, meaning=filtered),
    labels=(TRUE, FALSE, FAILURE),
    scripts=_script,
)
SWITCH = NodeType(
    name="org.thingsboard.rule.engine.filter.TbJsSwitchNode",
    configuration=ScriptConfiguration,
    make=partial(ScriptNode, meaning=switched),
    labels=None,
    scripts=_script,
)
TRANSFORM = NodeType(
    name="org.thingsboard.rule.engine.transform.TbTransformMsgNode",
    configuration=ScriptConfiguration,
    make=partial(ScriptNode, meaning=transformed),
    labels=(SUCCESS, FAILURE),
    scripts=_script,
)
LOG = NodeType(
    name="org.thingsboard.rule.engine.action.TbLogNode",
    configuration=ScriptConfiguration,
    make=LogNode,
    labels=(SUCCESS, FAILURE),
    scripts=_unusual,
)
