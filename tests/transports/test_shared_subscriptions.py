"""Shared subscriptions: each message is for one of those who share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mqtt_client import Client, FreeTopics

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property

KEPT = {"clean_start": False, "properties": {Property.SESSION_EXPIRY_INTERVAL: 600}}


class TestShared:
    """MQTT 5.0, 4.8.2"""

    def members(self, world: FreeTopics, *names: str, qos: int = 2, **more: Any) -> list[Client]:
        return [world.anonymous(name, **more).listen("$share/g/a/#", qos=qos) for name in names]

    def test_each_message_goes_to_one_of_them_in_turn(self) -> None:
        world = FreeTopics()
        members = self.members(world, "1", "2", "3")
        apart = world.anonymous("apart").listen("$share/other/a/#")
        alone = world.anonymous("alone").listen("a/#")
        speaker = world.client(5).connect()
        for number in range(9):
            speaker.say(f"a/{number}")
        assert [len(member.received()) for member in members] == [3, 3, 3]
        assert (len(apart.received()), len(alone.received())) == (9, 9)

    def test_who_shares_and_listens_alone_gets_both(self) -> None:
        world = FreeTopics()
        client = world.anonymous("1").listen("$share/g/a", "a")
        world.client(5).connect().say("a")
        assert len(client.received()) == 2

    def test_the_qos_is_the_member_s(self) -> None:
        world = FreeTopics()
        low = world.anonymous("low").listen("$share/g/a", qos=0)
        high = world.anonymous("high").listen("$share/g/a", qos=2)
        speaker = world.client(5).connect()
        for number in range(1, 5):
            speaker.say("a", b"x", 1, number)
        assert {qos for *_, qos in low.heard()} == {0}
        assert {qos for *_, qos in high.heard()} == {1}

    def test_a_member_that_is_away_is_passed_over(self) -> None:
        world = FreeTopics()
        here, away = self.members(world, "1", "2", **KEPT)
        away.lose()
        speaker = world.client(5).connect()
        for number in range(1, 5):
            speaker.say("a/1", b"x", 1, number)
        assert len(here.received()) == 4
        here.lose()
        speaker.say("a/1", b"x", 1, 9)
        waiting = [session.outbox.queued for session in world.admission.sessions._sessions.values()]
        assert sum(waiting) == 1, "when all are away one of them keeps it"

    def test_one_whose_window_is_full_is_passed_over(self) -> None:
        world = FreeTopics()
        full = world.anonymous("1", properties={Property.RECEIVE_MAXIMUM: 1}).listen("$share/g/a/#")
        (free,) = self.members(world, "2")
        speaker = world.client(5).connect()
        for number in range(1, 6):
            speaker.say("a/1", b"x", 1, number)
        assert (len(full.received()), len(free.received())) == (1, 4)

    def test_what_a_member_dies_with_goes_to_another(self) -> None:
        world = FreeTopics()
        dying, heir = self.members(world, "1", "2")
        speaker = world.client(5).connect()
        for number in range(1, 5):
            speaker.say("a/1", b"%d" % number, 1, number)
        mine, theirs = dying.received(), heir.received()
        assert (len(mine), len(theirs)) == (2, 2)
        dying.send(p.PubAck(mine[0].packet_id))
        dying.lose()
        (inherited,) = heir.received()
        assert (inherited.payload, inherited.qos, inherited.dup) == (mine[1].payload, 1, False)

    def test_the_heir_is_given_it_as_it_asked(self) -> None:
        world = FreeTopics()
        dying = world.anonymous("1")
        dying.send(p.Subscribe(1, (p.Subscription("$share/g/a", 2),), {Property.SUBSCRIPTION_IDENTIFIER: 1}))
        speaker = world.client(5).connect()
        speaker.say("a", b"x", 2)
        assert dying.received()[0].qos == 2
        heir = world.anonymous("2")
        heir.send(p.Subscribe(1, (p.Subscription("$share/g/a", 1),), {Property.SUBSCRIPTION_IDENTIFIER: 2}))
        dying.lose()
        (message,) = heir.received()
        assert (message.qos, message.properties) == (1, {Property.SUBSCRIPTION_IDENTIFIER: (2,)})

    def test_a_member_that_has_a_qos_2_message_already_keeps_it_to_itself(self) -> None:
        """It is somebody's: MQTT 5.0, 4.8.2 has it not sent to another before PUBREC with an error."""
        world = FreeTopics()
        dying, heir = self.members(world, "1", "2")
        speaker = world.client(5).connect()
        for number in (1, 2):
            speaker.say("a/1", b"x", 2, number)
        heir.received()
        (mine,) = dying.received()
        assert dying.send(p.PubRec(mine.packet_id)) == [p.PubRel(mine.packet_id)]
        dying.lose()
        assert heir.received() == []

    def test_one_that_is_away_for_a_while_keeps_what_it_has(self) -> None:
        world = FreeTopics()
        away, other = self.members(world, "1", "2", **KEPT)
        speaker = world.client(5).connect()
        for number in (1, 2):
            speaker.say("a/1", b"x", 1, number)
        (mine,) = away.received()
        other.received()
        away.lose()
        assert other.received() == []
        assert world.client(5).enter(client_id="1", username=None, **KEPT)[1:] == [replace(mine, dup=True)]

    def test_when_its_session_ends_another_has_it(self) -> None:
        world = FreeTopics()
        away, other = self.members(world, "1", "2", **KEPT)
        speaker = world.client(5).connect()
        for number in (1, 2):
            speaker.say("a/1", b"x", 1, number)
        other.received()
        away.lose()
        world.clock.advance(601)
        assert len(other.received()) == 1

    def test_leaving_the_group(self) -> None:
        world = FreeTopics()
        one, other = self.members(world, "1", "2")
        assert one.send(p.Unsubscribe(2, ("$share/g/a/#", "$share/x/a/#"))) == [p.UnsubAck(2, (0, 0x11))]
        speaker = world.client(5).connect()
        for _ in range(3):
            speaker.say("a")
        assert (len(one.received()), len(other.received())) == (0, 3)
        other.send(p.Unsubscribe(2, ("$share/g/a/#",)))
        assert speaker.say("a", b"x", 1) == [p.PubAck(1, 0x10)]

    @pytest.mark.parametrize("level", [3, 4])
    def test_version_3_may_share_too(self, level: int) -> None:
        world = FreeTopics()
        members = [world.anonymous(name, level=level).listen("$share/g/a") for name in "12"]
        speaker = world.client(5).connect()
        for _ in range(4):
            speaker.say("a")
        assert [len(member.received()) for member in members] == [2, 2]

    @pytest.mark.parametrize("text", ["$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g+/a", "$share/"])
    def test_version_3_is_refused_what_is_no_share(self, text: str) -> None:
        client = FreeTopics().anonymous("1", level=4)
        answers = client.send(p.Subscribe(1, (p.Subscription(text, 0),)))
        assert answers == ([] if client.closed else [p.SubAck(1, (0x80,))])
