"""What the broker can do without a chain: where all that a chain would do is what the broker does as well by itself."""

from __future__ import annotations

from rpcbroker.core.routes import Routes
from rpcbroker.rules import types
from rpcbroker.rules.active import ActiveChain, ActiveNode
from rpcbroker.rules.node import Effect

_EFFECTS = {types.CALL: Effect.CALL, types.TELEMETRY: Effect.TELEMETRY, types.ATTRIBUTES: Effect.ATTRIBUTES}


def routes_of(chain: ActiveChain, now: int) -> Routes:
    """The routes of a tenant with this root chain at this time (epoch ms); until `recorded_until` they stay so."""
    shorts = {type_: _does(chain, type_, now) == [effect] for type_, effect in _EFFECTS.items()}
    heard = frozenset(type_ for type_ in types.LABELS if type_ not in _EFFECTS and _does(chain, type_, now) != [])
    return Routes(shorts[types.CALL], shorts[types.TELEMETRY], shorts[types.ATTRIBUTES], heard)


def recorded_until(chain: ActiveChain, now: int) -> int | None:
    """When the next of its nodes records less, epoch ms; None if none does."""
    ends = [node.debug.all_enabled_until for node in chain.nodes if node.debug.all_enabled_until > now]
    return min(ends, default=None)


def _does(chain: ActiveChain, type_: str, now: int) -> list[Effect | None]:
    """What comes of a message of this type, each time something does; None is anything that cannot be foreseen."""
    if chain.first is None:
        return []
    found: list[Effect | None] = []
    todo, seen = [chain.nodes[chain.first]], set()
    while todo:
        node = todo.pop()
        labels = _foreseen(node, type_, now)
        if labels is None:
            found.append(_effect(node, now))
            continue
        if node.index in seen:
            return [None]
        seen.add(node.index)
        todo += [chain.nodes[index] for label in labels for index in node.targets.get(label, ())]
    return found


def _foreseen(node: ActiveNode, type_: str, now: int) -> tuple[str, ...] | None:
    """The labels under which such a message surely leaves the node, as it came and without another effect."""
    foresee = getattr(node.act, "foresee", None)
    if foresee is None or node.debug.records_all(now):
        return None
    labels: tuple[str, ...] = foresee(type_)
    return labels


def _effect(node: ActiveNode, now: int) -> Effect | None:
    if node.debug.records_all(now) or node.debug.failures_enabled or any(node.targets.values()):
        return None
    effect: Effect | None = getattr(node.act, "effect", None)
    return effect
