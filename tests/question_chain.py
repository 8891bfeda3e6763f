"""A rule chain that answers devices' questions in all ways, and what is expected of them over any protocol."""

from __future__ import annotations

from typing import Any

from fakes import World
from rule_world import DELAY, REPLY, RULES, SWITCH, TRANSFORM, FakeScripts, graph, put, rules_of

CHAIN = graph(
    [
        (SWITCH, "Switch", {}),
        (f"{RULES}.filter.TbJsSwitchNode", "Methods", {"jsScript": "method"}),
        (REPLY, "Reply", {}),
        (TRANSFORM, "Change", {"jsScript": "change"}),
        (REPLY, "Reply again", {}),
        (DELAY, "Wait", {"periodInSeconds": 3}),
        (DELAY, "Wait for long", {"periodInSeconds": 100}),
        (REPLY, "Late reply", {}),
        (TRANSFORM, "Convert", {"jsScript": "none"}),
    ],
    (0, 1, "RPC Request from Device"),
    (1, 2, "echo"),
    (1, 2, "twice"),
    (1, 3, "twice"),
    (3, 4, "Success"),
    (1, 5, "soon"),
    (5, 7, "Success"),
    (1, 6, "never"),
    (6, 7, "Success"),
    (1, 8, "fail"),
)
FAILED = {"error": "no rule answers the method \"fail\": Convert: 'none' is not known to this test"}


class Asker:
    """A device that asks; `said` is what it was answered since: status, None where there is none, and JSON."""

    ok: Any = None
    nobody: Any = None
    timeout: Any = None
    seconds = 60.0
    """After which it hears that nothing came in time."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        scripts = FakeScripts()
        scripts.known["method"] = lambda message, *_: message["method"]
        scripts.known["change"] = lambda message, *_: {"msg": {"again": message["method"]}}
        self.rules = rules_of(world, scripts, **settings)
        put(world, self.rules, CHAIN)

    def send(self, method: str) -> None:
        """Ask, with the params [1]."""
        raise NotImplementedError

    def said(self) -> list[Any]:
        raise NotImplementedError

    def leave(self) -> None:
        """Its connection is cut."""
        raise NotImplementedError

    def ask(self, method: str) -> list[Any]:
        self.send(method)
        return self.said()

    def later(self, seconds: float) -> list[Any]:
        self.world.clock.advance(seconds)
        self.world.clock.advance(0.1)
        return self.said()


class Questions:
    """What is the same over all protocols. `more_than_one`: an answer beside the first one goes to the device."""

    more_than_one = False

    def asker(self, **settings: Any) -> Asker:
        raise NotImplementedError

    def test_a_chain_answers(self) -> None:
        asker = self.asker()
        assert asker.ask("echo") == [(asker.ok, {"method": "echo", "params": [1]})]
        assert len(asker.rules.questions) == 0

    def test_a_chain_that_takes_its_time_answers_later(self) -> None:
        asker = self.asker()
        assert asker.ask("soon") == []
        assert asker.later(3) == [(asker.ok, {"method": "soon", "params": [1]})]

    def test_what_no_rule_answers_is_told_at_once(self) -> None:
        asker = self.asker()
        assert asker.ask("reboot") == [(asker.nobody, {"error": 'no rule answers the method "reboot"'})]

    def test_what_the_broker_knows_it_answers_itself(self) -> None:
        asker = self.asker()
        assert asker.ask("ping") == [(asker.ok, "pong")]

    def test_why_a_chain_failed_is_told(self) -> None:
        asker = self.asker()
        assert asker.ask("fail") == [(asker.nobody, FAILED)]

    def test_of_two_answers_one_may_be_dropped(self) -> None:
        asker = self.asker()
        first, *more = [*asker.ask("twice"), *asker.later(0.1)]
        assert first == (asker.ok, {"method": "twice", "params": [1]})
        assert more == ([(asker.ok, {"again": "twice"})] if self.more_than_one else [])
        assert asker.rules.questions.dropped == (0 if self.more_than_one else 1)

    def test_a_chain_that_takes_too_long_is_too_late(self) -> None:
        asker = self.asker()
        asker.send("never")
        assert asker.later(asker.seconds - 1) == []
        ((status, body),) = asker.later(1)
        assert status == asker.timeout
        assert body == {"error": "timeout"} or asker.timeout is not None
        late = asker.later(100)
        assert late == ([(asker.ok, {"method": "never", "params": [1]})] if self.more_than_one else [])
        assert len(asker.rules.questions) == 0

    def test_who_has_left_is_not_answered_and_nothing_stays(self) -> None:
        asker = self.asker()
        asker.send("soon")
        asker.leave()
        assert asker.later(3) == []
        assert len(asker.rules.questions) == 0
        assert asker.rules.engine.running.total() == 0

    def test_too_many_messages_are_refused(self) -> None:
        asker = self.asker(max_messages=0)
        ((status, body),) = asker.ask("echo")
        assert status not in (asker.ok, asker.nobody) or status is None
        assert "Too many messages are in the tenant's rule chains" in str(body)
        assert len(asker.rules.questions) == 0

    def test_who_waits_when_the_broker_stops_hears_that(self) -> None:
        asker = self.asker()
        asker.send("soon")
        asker.world.broker.rules.stop()
        said = [*asker.said(), *asker.ask("echo")]
        assert ["shutting down" in str(body) for _, body in said] == [True, True]
        assert len(asker.rules.questions) == 0
