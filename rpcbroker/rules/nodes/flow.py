"""Nodes that lead messages from chain to chain, or say how far they are."""

from __future__ import annotations

from uuid import UUID

import msgspec

from rpcbroker.rules.chain import ENTER_CHAIN
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import Enter, Leave, NodeType, Out, Outcome, Place
from rpcbroker.rules.types import FAILURE, SUCCESS


class EnterConfiguration(msgspec.Struct, rename="camel"):
    """Which chain. `forwardMsgToDefaultRuleChain`: the root chain, whatever else is said."""

    rule_chain_id: UUID | None = None
    forward_msg_to_default_rule_chain: bool = False

    def __post_init__(self) -> None:
        if self.rule_chain_id is None and not self.forward_msg_to_default_rule_chain:
            raise ValueError("there is no ruleChainId")


class EnterNode:
    """Messages go on in another chain, and from here when they leave it."""

    def __init__(self, configuration: EnterConfiguration, place: Place) -> None:
        default = configuration.forward_msg_to_default_rule_chain
        self._chain_id = None if default else configuration.rule_chain_id

    def __call__(self, message: RuleMessage) -> Outcome:
        return (Enter(self._chain_id, message),)


class NothingToConfigure(msgspec.Struct):
    """What is there is ignored."""


class LeaveNode:
    """Messages leave the chain; the label under which they do is the node's name."""

    def __init__(self, configuration: NothingToConfigure, place: Place) -> None:
        self._label = place.name

    def __call__(self, message: RuleMessage) -> Outcome:
        return (Leave(self._label, message),)


class PassNode:
    """Messages go on as they came."""

    def __init__(self, configuration: NothingToConfigure, place: Place) -> None:
        pass

    def __call__(self, message: RuleMessage) -> Outcome:
        return (Out(SUCCESS, message),)


class CheckpointNode(PassNode):
    """There are no queues here that a message could be put into: it goes on."""

    def foresee(self, type_: str) -> tuple[str, ...]:
        return (SUCCESS,)


RULE_CHAIN = NodeType(name=ENTER_CHAIN, configuration=EnterConfiguration, make=EnterNode, labels=None)
OUTPUT = NodeType(
    name="org.thingsboard.rule.engine.flow.TbRuleChainOutputNode",
    configuration=NothingToConfigure,
    make=LeaveNode,
    labels=(),
)
ACKNOWLEDGE = NodeType(
    name="org.thingsboard.rule.engine.flow.TbAckNode",
    configuration=NothingToConfigure,
    make=PassNode,
    labels=(SUCCESS, FAILURE),
    acknowledges=True,
)
CHECKPOINT = NodeType(
    name="org.thingsboard.rule.engine.flow.TbCheckpointNode",
    configuration=NothingToConfigure,
    make=CheckpointNode,
    labels=(SUCCESS, FAILURE),
)
