"""One node at a time: what goes into it, and all that comes out."""

from __future__ import annotations

from typing import Any

from fakes import device, error_of
from rule_world import RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.rules.chain import ChainRefused
from rpcbroker.rules.engine import Passed, Run
from rpcbroker.rules.format import read_graph
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage

BASE = "org.thingsboard.rule.engine."


def message(world: RuleWorld, data: Any = None, **more: Any) -> RuleMessage:
    """About the device of the world. `data` is a value, or JSON text as bytes."""
    given: dict[str, Any] = {
        "id": world.new_uuid(),
        "type": "POST_TELEMETRY_REQUEST",
        "originator": Originator(DEVICE, device().id),
        "data": data if isinstance(data, bytes) else jsontext.encode({} if data is None else data),
        "metadata": {"deviceName": "A"},
        "time": world.now_ms(),
    }
    return RuleMessage(**(given | more))


class Bench:
    """A chain of one node, or of more; `came` is what left them, `texts` why they failed."""

    def __init__(self, type_: str, configuration: dict[str, Any], world: RuleWorld | None = None, **more: Any) -> None:
        self.world = world or RuleWorld(**more)
        self.passed: list[Passed] = []
        self.chain_id = self.world.put(graph([(BASE + type_, "Node", configuration)]))
        assert self.world.rules.chains.active(self.world.device.tenant_id, self.chain_id), "the chain was refused"

    def send(self, data: Any = None, **more: Any) -> Run:
        return self.world.rules.engine.begin(
            self.world.device.tenant_id, message(self.world, data, **more), watch=self.watch
        )

    def watch(self, passed: Passed) -> None:
        self.passed.append(passed)

    @property
    def came(self) -> list[tuple[str | None, RuleMessage]]:
        return [(each.label, each.went) for each in self.passed]

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.passed if each.text is not None]

    @property
    def labels(self) -> list[str | None]:
        return [label for label, _ in self.came]

    @property
    def bodies(self) -> list[Any]:
        return [went.body() for _, went in self.came]

    @property
    def failure(self) -> str:
        assert self.labels == ["Failure"]
        return self.texts[0]


def passed(type_: str, configuration: dict[str, Any], data: Any = None, **more: Any) -> Bench:
    """One message has passed one node."""
    bench = Bench(type_, configuration)
    run = bench.send(data, **more)
    assert run.ended
    return bench


def checked(world: RuleWorld, type_: str, configuration: dict[str, Any]) -> Deferred[Any]:
    """Whether a chain with such a node is taken."""
    given = read_graph(jsontext.encode(graph([(BASE + type_, "Node", configuration)])))
    return Deferred.fromCoroutine(world.rules.chains.check(world.device.tenant_id, given))


def refusal(type_: str, configuration: dict[str, Any]) -> str:
    """What is said of a node with this configuration, which is refused."""
    error = error_of(checked(RuleWorld(), type_, configuration))
    assert isinstance(error, ChainRefused)
    assert error.message.startswith("The rule chain cannot be taken: node 0 'Node': configuration: ")
    return error.message
