"""What the broker can do without a chain: where all that a chain would do is what the broker does as well by itself."""

from __future__ import annotations

from rpcbroker.core.routes import Routes
from rpcbroker.rules import types
from rpcbroker.rules.active import ActiveChain, ActiveNode
from rpcbroker.rules.node import Effect

_EFFECTS = {types.CALL: Effect.CALL, types.TELEMETRY: Effect.TELEMETRY, types.ATTRIBUTES: Effect.ATTRIBUTES}


def routes_of(chain: ActiveChain) -> Routes:
    """The routes of a tenant with this root chain."""
    shorts = {type_: _does(chain, type_) == [effect] for type_, effect in _EFFECTS.items()}
    heard = frozenset(type_ for type_ in types.LABELS if type_ not in _EFFECTS and _does(chain, type_) != [])
    return Routes(shorts[types.CALL], shorts[types.TELEMETRY], shorts[types.ATTRIBUTES], heard)


def _does(chain: ActiveChain, type_: str) -> list[Effect | None]:
    """What comes of a message of this type, each time something does; None is anything that cannot be foreseen."""
    if chain.first is None:
        return []
    found: list[Effect | None] = []
    todo, seen = [chain.nodes[chain.first]], set()
    while todo:
        node = todo.pop()
        labels = _foreseen(node, type_)
        if labels is None:
            found.append(_effect(node))
            continue
        if node.index in seen:
            return [None]
        seen.add(node.index)
        todo += [chain.nodes[index] for label in labels for index in node.targets.get(label, ())]
    return found


def _foreseen(node: ActiveNode, type_: str) -> tuple[str, ...] | None:
    """The labels under which such a message surely leaves the node, as it came and without another effect."""
    foresee = getattr(node.act, "foresee", None)
    if foresee is None or node.debug.all_enabled or node.debug.all_enabled_until:
        return None
    labels: tuple[str, ...] = foresee(type_)
    return labels


def _effect(node: ActiveNode) -> Effect | None:
    recorded = node.debug.all_enabled or node.debug.all_enabled_until or node.debug.failures_enabled
    if recorded or any(node.targets.values()):
        return None
    effect: Effect | None = getattr(node.act, "effect", None)
    return effect
