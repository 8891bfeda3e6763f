"""ThingsBoard's WebSocket: who may, what there is, what changes, and what it closes for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from fakes import CUSTOMER, EPOCH_MS, FakeLink, Slow, device, result_of
from rest import Rest
from twisted.internet.defer import Deferred

from rpcbroker.core import errors
from rpcbroker.core.feed_settings import WampSettings
from rpcbroker.core.model import Authority, Scope
from rpcbroker.feed import values_socket as socket_module
from rpcbroker.feed.value_subscriptions import MAX_BEHIND
from rpcbroker.feed.values_socket import ERROR_CODES, MAX_KEYS, MAX_WAITING, ValuesSocket, ValuesSockets

OTHER = device(101, customer_id=CUSTOMER)


@dataclass(eq=False)
class Client:
    """Somebody at the other end, who takes `room` messages more; None is any number."""

    sockets: ValuesSockets
    token: str = ""
    room: int | None = None
    sent: list[Any] = field(default_factory=list)
    code: int | None = None
    reason: str = ""
    socket: ValuesSocket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = self.sockets.socket(self.token)
        self.socket.opened(self)

    def send_later(self, message: bytes) -> bool:
        assert self.code is None, "nothing is sent once it is closed"
        if self.room is not None:
            if not self.room:
                return False
            self.room -= 1
        self.sent.append(json.loads(message))
        return True

    def close(self, code: int, reason: str) -> None:
        assert self.code is None, "closed once"
        self.code, self.reason = code, reason
        self.socket.closed()

    def says(self, **message: Any) -> list[Any]:
        """What is answered at once."""
        self.sends(json.dumps(message).encode())
        return self.heard()

    def sends(self, message: bytes) -> None:
        self.socket.received(message)

    def leaves(self) -> None:
        self.socket.closed()

    def heard(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent

    def subscribes(self, kind: str = "TIMESERIES", cmd_id: int = 1, **more: Any) -> list[Any]:
        return self.says(cmds=[command(kind, cmd_id, **more)])

    def data(self) -> list[Any]:
        return [each["data"] for each in self.heard()]


def command(kind: str = "TIMESERIES", cmd_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": kind, "cmdId": cmd_id, "entityType": "DEVICE", "entityId": str(UUID(int=100))} | more


def update(cmd_id: int, data: Any) -> dict[str, Any]:
    latest = {key: points[0][0] for key, points in data.items()}
    return {"subscriptionId": cmd_id, "errorCode": 0, "errorMsg": None, "data": data, "latestValues": latest}


def sockets(rest: Rest, **settings: Any) -> ValuesSockets:
    return ValuesSockets(
        broker=rest.broker, feed=rest.feed, rights=rest.rest.who, settings=lambda: WampSettings(**settings)
    )


@pytest.fixture
def rest() -> Rest:
    rest = Rest()
    rest.add(OTHER)
    rest.session()
    return rest


def client(rest: Rest, token: str = "", **settings: Any) -> Client:
    """One that has logged in by its URL."""
    return Client(sockets(rest, **settings), token or rest.token)


def post(rest: Rest, values: Any, device_id: UUID | None = None) -> None:
    telemetry = rest.broker.telemetry
    kept = telemetry.keep(device_id or rest.device.id, telemetry.parse(json.dumps(values).encode()))
    if kept is not None:
        result_of(kept)


def write(rest: Rest, values: Any, scope: Scope = Scope.SERVER, of: Any = None) -> None:
    result_of(Deferred.fromCoroutine(rest.broker.write_attributes(rest.session(of), scope, values)))


def key(rest: Rest, **scope: Any) -> str:
    body = {"description": "a key", "scope": scope}
    return str(result_of(Deferred.fromCoroutine(rest.ok("POST", "/api/apiKey", body)))["value"])


class TestLogin:
    def test_by_the_url(self, rest: Rest) -> None:
        assert client(rest).subscribes() == [update(1, {})]

    @pytest.mark.parametrize("member", ["token", "apiKey"])
    def test_by_the_first_message_which_may_have_commands(self, rest: Rest, member: str) -> None:
        ticket = rest.token if member == "token" else key(rest, access="READ")
        found = Client(sockets(rest)).says(authCmd={"cmdId": 0, member: ticket}, cmds=[command()])
        assert found == [update(1, {})]

    def test_whoever_does_not_log_in_in_time_is_closed(self, rest: Rest) -> None:
        silent = Client(sockets(rest))
        rest.clock.advance(9.9)
        assert silent.code is None
        rest.clock.advance(0.2)
        assert silent.code == 1008

    def test_whoever_has_logged_in_has_time(self, rest: Rest) -> None:
        one = Client(sockets(rest))
        one.says(authCmd={"token": rest.token})
        rest.clock.pump([1.0] * 30)
        assert one.code is None

    def test_who_commands_before_is_closed(self, rest: Rest) -> None:
        one = Client(sockets(rest))
        assert one.says(cmds=[command()]) == []
        assert one.code == 1008

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"{",
            b"[]",
            b"7",
            b'"x"',
            b"[" * 100_000,
            b'{"authCmd":7}',
            b'{"authCmd":{}}',
            b'{"authCmd":{"token":7}}',
            b'{"authCmd":{"token":"a.b.c"}}',
            b'{"authCmd":{"apiKey":"rpcb_x"}}',
        ],
    )
    def test_what_is_no_json_or_no_ticket_closes_it(self, rest: Rest, message: bytes) -> None:
        one = Client(sockets(rest))
        one.sends(message)
        assert (one.code, one.sent) == (1007, [])

    def test_a_bad_token_in_the_url_closes_it(self, rest: Rest) -> None:
        assert client(rest, "a.b.c").code == 1007

    def test_once_logged_in_what_is_no_json_is_an_error(self, rest: Rest) -> None:
        one = client(rest)
        one.sends(b"{")
        ((error),) = one.heard()
        assert (error["subscriptionId"], error["errorCode"]) == (-1, 2)
        assert one.code is None

    def test_it_closes_when_the_token_expires_unless_that_was_renewed(self) -> None:
        rest = Rest(token_lifetime=60)
        rest.session()
        expiring, renewing = client(rest), client(rest)
        renewing.subscribes()
        rest.clock.advance(50)
        renewing.says(authCmd={"token": rest.pair().token})
        rest.clock.pump([1.0] * 11)
        assert (expiring.code, expiring.reason) == (1008, "Token has expired")
        assert renewing.code is None
        renewing.heard()
        post(rest, {"a": 1})
        assert renewing.data() == [{"a": [[rest.now_ms(), "1"]]}]

    def test_it_closes_within_a_second_when_who_it_is_logs_out(self, rest: Rest) -> None:
        one = client(rest)
        one.subscribes()
        result_of(Deferred.fromCoroutine(rest.ask("POST", "/api/auth/logout")))
        rest.clock.advance(1.02)
        assert one.code == 1008
        post(rest, {"a": 1})

    def test_it_stays_the_same_user(self, rest: Rest) -> None:
        one = client(rest)
        one.says(authCmd={"token": rest.add_user("b@example.org", Authority.TENANT_ADMIN)})
        assert one.code == 1008

    def test_logins_and_commands_count_as_requests(self) -> None:
        rest = Rest(http={"user_rate": ((3, 3600),)})
        rest.session()
        one = client(rest)
        answers = one.says(cmds=[command(cmd_id=number) for number in range(4)])
        assert [each["errorCode"] for each in answers] == [0, 0, 2, 2]
        assert "Too many requests" in answers[-1]["errorMsg"]
        assert client(rest).code == 1013


class TestTelemetry:
    def test_first_what_there_is_then_what_changes_as_text(self, rest: Rest) -> None:
        values = {"s": "text", "i": 7, "f": 1.5, "b": True, "o": {"x": [1]}, "n": "12"}
        post(rest, values)
        one = client(rest)
        now = rest.now_ms()
        expected = {"s": "text", "i": "7", "f": "1.5", "b": "true", "o": '{"x":[1]}', "n": "12"}
        assert one.subscribes(scope="LATEST_TELEMETRY") == [
            update(1, {name: [[now, value]] for name, value in sorted(expected.items())})
        ]
        rest.clock.advance(0.1)
        post(rest, values)
        ((told),) = one.heard()
        assert told == update(1, {name: [[now + 100, value]] for name, value in expected.items()})

    def test_only_the_keys_that_are_asked_for(self, rest: Rest) -> None:
        post(rest, {"a": 1, "b": 2})
        one = client(rest)
        assert [each["data"].keys() for each in one.subscribes(keys="b, c")] == [{"b"}]
        post(rest, {"a": 3})
        post(rest, {"c": 4, "a": 5})
        assert [data.keys() for data in one.data()] == [{"c"}]

    def test_what_is_older_than_what_was_told_is_not_told(self, rest: Rest) -> None:
        one = client(rest)
        one.subscribes()
        for ts, value in [(1000, 1), (999, 2), (1000, 3), (1001, 4)]:
            post(rest, {"ts": ts, "values": {"a": value}})
        assert one.data() == [{"a": [[1000, "1"]]}, {"a": [[1000, "3"]]}, {"a": [[1001, "4"]]}]

    def test_several_points_at_once_come_the_latest_first(self, rest: Rest) -> None:
        one = client(rest)
        one.subscribes()
        post(rest, [{"ts": 1, "values": {"a": 1}}, {"ts": 2, "values": {"a": 2, "b": 3}}])
        assert one.heard() == [update(1, {"a": [[2, "2"], [1, "1"]], "b": [[2, "3"]]})]

    def test_with_a_window_of_time_what_there_was_comes_first(self, rest: Rest) -> None:
        for ts in range(10):
            post(rest, {"ts": ts, "values": {"a": ts}})
        one = client(rest)
        found = one.subscribes(keys="a", startTs=3, timeWindow=4, limit=3, agg="NONE")
        assert found == [update(1, {"a": [[7, "7"], [6, "6"], [5, "5"]]})]
        post(rest, {"ts": 20, "values": {"a": 20}})
        assert one.data() == [{"a": [[20, "20"]]}]

    def test_what_comes_while_it_is_read_is_not_lost_and_comes_after(self, rest: Rest) -> None:
        post(rest, {"ts": 5, "values": {"a": 5}})
        result_of(rest.broker.telemetry.flush())
        one = client(rest)
        with Slow(rest.store.values, "series") as slow:
            assert one.subscribes() == []
            post(rest, {"ts": 4, "values": {"a": 4}})
            post(rest, {"ts": 6, "values": {"a": 6, "b": 1}})
            assert one.heard() == []
            slow.arrive()
        assert one.data() == [{"a": [[5, "5"]]}, {"a": [[6, "6"]], "b": [[6, "1"]]}]

    def test_what_a_flood_leaves_out_is_the_oldest(self, rest: Rest) -> None:
        post(rest, {"ts": 1, "values": {"a": 1}})
        result_of(rest.broker.telemetry.flush())
        one = client(rest)
        with Slow(rest.store.values, "series") as slow:
            one.subscribes()
            for ts in range(2, MAX_BEHIND + 10):
                post(rest, {"ts": ts, "values": {"a": ts}})
            slow.arrive()
        told = one.data()
        assert len(told) == 1 + MAX_BEHIND
        assert told[-1] == {"a": [[MAX_BEHIND + 9, str(MAX_BEHIND + 9)]]}


class TestAttributes:
    def test_first_what_there_is_then_what_changes(self, rest: Rest) -> None:
        write(rest, {"on": True, "text": "x"})
        one = client(rest)
        now = rest.now_ms()
        assert one.subscribes("ATTRIBUTES", scope="SERVER_SCOPE", keys="on,text") == [
            update(1, {"on": [[now, "true"]], "text": [[now, "x"]]})
        ]
        rest.clock.advance(0.5)
        write(rest, {"on": False})
        write(rest, {"on": True}, Scope.SHARED)
        assert one.heard() == [update(1, {"on": [[now + 500, "false"]]})]

    def test_what_is_deleted_is_an_empty_text(self, rest: Rest) -> None:
        write(rest, {"a": 1})
        one = client(rest)
        one.subscribes("ATTRIBUTES", scope="SERVER_SCOPE", keys="a")
        coroutine = rest.broker.delete_attributes(rest.session(), Scope.SERVER, ["a"])
        result_of(Deferred.fromCoroutine(coroutine))
        assert one.data() == [{"a": [[EPOCH_MS, ""]]}]

    @pytest.mark.parametrize("scope", [None, "", "ANY_SCOPE"])
    def test_without_a_scope_all_of_them(self, rest: Rest, scope: str | None) -> None:
        write(rest, {"a": 1}, Scope.SHARED)
        one = client(rest)
        found = one.subscribes("ATTRIBUTES", scope=scope, keys="a")
        assert [each["data"] for each in found] == [{"a": [[EPOCH_MS, "1"]]}]
        write(rest, {"a": 2}, Scope.CLIENT)
        assert one.data() == [{"a": [[EPOCH_MS, "2"]]}]

    def test_what_comes_while_it_is_read_is_not_lost(self, rest: Rest) -> None:
        write(rest, {"a": 1})
        one = client(rest)
        with Slow(rest.store.values, "attributes") as slow:
            one.subscribes("ATTRIBUTES", scope="SERVER_SCOPE", keys="a")
            write(rest, {"a": 2})
            slow.arrive()
        assert one.data() == [{"a": [[EPOCH_MS, "1"]]}, {"a": [[EPOCH_MS, "2"]]}]

    def test_presence_follows_the_device(self, rest: Rest) -> None:
        one = client(rest)
        one.subscribes("ATTRIBUTES", scope="SERVER_SCOPE", keys="active,lastConnectTime,lastDisconnectTime")
        rest.clock.advance(1)
        link = rest.link()
        connected = rest.now_ms()
        rest.clock.advance(1)
        assert isinstance(link, FakeLink)
        link.session.detach(link, "it said goodbye")
        told: dict[str, Any] = {}
        for data in one.data():
            told |= {name: [*told.get(name, []), *points] for name, points in data.items()}
        assert told == {
            "active": [[connected, "true"], [connected + 1000, "false"]],
            "lastConnectTime": [[connected, str(connected)]],
            "lastDisconnectTime": [[connected + 1000, str(connected + 1000)]],
        }

    def test_presence_is_in_what_there_is(self, rest: Rest) -> None:
        rest.link()
        ((found),) = client(rest).subscribes("ATTRIBUTES", scope="SERVER_SCOPE")
        assert found["data"]["active"] == [[EPOCH_MS, "true"]]
        ((other),) = client(rest).subscribes("ATTRIBUTES", scope="SHARED_SCOPE")
        assert other["data"] == {}


class TestCommands:
    def test_older_clients_say_by_lists_what_commands_are(self, rest: Rest) -> None:
        post(rest, {"ts": 5, "values": {"a": 1}})
        write(rest, {"b": 2}, Scope.SHARED)
        one = client(rest)
        plain: dict[str, Any] = {"entityType": "DEVICE", "entityId": str(rest.device.id)}
        found = one.says(
            attrSubCmds=[plain | {"cmdId": 1, "scope": "SHARED_SCOPE"}],
            tsSubCmds=[plain | {"cmdId": 2, "keys": "a", "scope": "LATEST_TELEMETRY"}],
            historyCmds=[plain | {"cmdId": 3, "keys": "a", "startTs": 0, "endTs": 9}],
            alarmDataCmds=None,
        )
        assert found == [
            update(1, {"b": [[EPOCH_MS, "2"]]}),
            update(2, {"a": [[5, "1"]]}),
            update(3, {"a": [[5, "1"]]}),
        ]

    def test_history_is_told_once(self, rest: Rest) -> None:
        for ts in range(5):
            post(rest, {"ts": ts, "values": {"a": ts, "b": ts}})
        one = client(rest)
        found = one.subscribes("TIMESERIES_HISTORY", keys="a", startTs=1, endTs=3, limit=2)
        assert found == [update(1, {"a": [[3, "3"], [2, "2"]]})]
        post(rest, {"a": 9})
        assert one.heard() == []

    def test_no_more_comes_once_it_is_unsubscribed(self, rest: Rest) -> None:
        one = client(rest)
        one.subscribes(cmd_id=1)
        one.subscribes(cmd_id=2)
        assert one.subscribes(cmd_id=1, unsubscribe=True) == []
        post(rest, {"a": 1})
        assert [each["subscriptionId"] for each in one.heard()] == [2]
        assert one.says(cmds=[{"cmdId": 9, "type": "ENTITY_DATA_UNSUBSCRIBE"}]) == []
        assert one.says(entityDataUnsubscribeCmds=[{"cmdId": 9}]) == []

    def test_the_same_id_again_takes_the_place_of_the_first(self, rest: Rest) -> None:
        one = client(rest)
        one.subscribes(keys="a")
        one.subscribes(keys="b")
        post(rest, {"a": 1, "b": 2})
        assert [data.keys() for data in one.data()] == [{"b"}]

    @pytest.mark.parametrize(
        ("kind", "name"),
        [("ENTITY_DATA", "ENTITY_DATA"), ("ENTITY_COUNT", "COUNT_DATA"), ("ALARM_DATA", "ALARM_DATA"), ("x", "x")],
    )
    def test_what_is_not_served_is_said_so(self, rest: Rest, kind: str, name: str) -> None:
        one = client(rest)
        ((error),) = one.says(cmds=[{"type": kind, "cmdId": 4, "query": {"deep": [1]}}])
        assert (error["cmdId"], error["cmdUpdateType"], error["errorCode"], error["data"]) == (4, name, 2, None)
        assert "is not served here" in error["errorMsg"]

    @pytest.mark.parametrize(
        ("bad", "cmd_id", "said"),
        [
            ({"entityId": "x"}, 1, "entityId must be"),
            ({"entityId": None}, 1, "entityId must be"),
            ({"entityType": "ASSET"}, 1, "Only a DEVICE"),
            ({"entityId": 7}, 1, "Expected `str | null`, got `int`"),
            ({"cmdId": "1"}, -1, "Expected `int`, got `str`"),
            ({"cmdId": None}, -1, "Expected `int`"),
            ({"agg": "AVG"}, 1, "agg must be NONE"),
            ({"limit": -1}, 1, "limit must not"),
            ({"type": "ATTRIBUTES", "scope": "x"}, 1, "The scope must be"),
            ({"type": "TIMESERIES_HISTORY"}, 1, "keys must name"),
        ],
    )
    def test_a_command_that_is_wrong_is_an_error_and_the_others_are_done(
        self, rest: Rest, bad: dict[str, Any], cmd_id: int, said: str
    ) -> None:
        one = client(rest)
        error, good = one.says(cmds=[command() | bad, command(cmd_id=2)])
        assert (error["subscriptionId"], error["errorCode"]) == (cmd_id, 2)
        assert said in error["errorMsg"]
        assert good == update(2, {})

    @pytest.mark.parametrize("commands", [[7], ["x"], [None], [[]], [{}]])
    def test_what_is_no_command_is_an_error(self, rest: Rest, commands: Any) -> None:
        ((error),) = client(rest).says(cmds=commands)
        assert (error["subscriptionId"], error["errorCode"]) == (-1, 2)

    def test_commands_are_done_in_their_order_while_the_store_is_slow(self, rest: Rest) -> None:
        one = client(rest)
        with Slow(rest.store.values, "attributes") as slow:
            one.says(cmds=[command("ATTRIBUTES", 1), command("TIMESERIES", 2)])
            one.subscribes("TIMESERIES", 3)
            assert one.heard() == []
            slow.arrive()
        assert [each["subscriptionId"] for each in one.heard()] == [1, 2, 3]

    def test_every_error_has_a_code(self) -> None:
        def classes(kind: type[errors.BrokerError]) -> list[type[errors.BrokerError]]:
            return [kind, *(each for child in kind.__subclasses__() for each in classes(child))]

        assert all(any(kind in ERROR_CODES for kind in each.__mro__) for each in classes(errors.BrokerError))


class TestRights:
    def test_foreign_and_unknown_devices_are_alike(self, rest: Rest) -> None:
        customer = rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER)
        for kind in ("ATTRIBUTES", "TIMESERIES", "TIMESERIES_HISTORY"):
            one = client(rest, customer)
            foreign, unknown = (
                one.subscribes(kind, 5, entityId=str(each), keys="a") for each in (rest.device.id, UUID(int=9))
            )
            assert foreign == unknown
            assert foreign[0]["errorCode"] == 2
            assert one.subscribes(kind, 6, entityId=str(OTHER.id), keys="a") == [update(6, {})]
        assert rest.feed._tenants[rest.device.tenant_id].owners

    def test_nothing_of_others_is_told(self, rest: Rest) -> None:
        rest.session(OTHER)
        customer = client(rest, rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=CUSTOMER))
        customer.subscribes(entityId=str(OTHER.id))
        customer.subscribes("ATTRIBUTES", 2, entityId=str(OTHER.id))
        customer.heard()
        post(rest, {"a": 1})
        write(rest, {"a": 1})
        rest.link()
        assert customer.heard() == []
        result_of(Deferred.fromCoroutine(rest.ask("DELETE", f"/api/customer/device/{OTHER.id}")))
        post(rest, {"a": 1}, OTHER.id)
        write(rest, {"a": 1}, of=OTHER)
        rest.link(OTHER)
        assert customer.heard() == [], "nor of what was its own"

    def test_a_key_sees_the_devices_that_it_is_for(self, rest: Rest) -> None:
        one = client(rest, key(rest, access="READ", deviceIds=[str(OTHER.id)]))
        assert one.subscribes()[0]["errorCode"] == 2
        assert one.subscribes(entityId=str(OTHER.id)) == [update(1, {})]

    def test_system_administrators_see_no_device(self, rest: Rest) -> None:
        assert client(rest, rest.sys_token).subscribes()[0]["errorCode"] == 3

    def test_where_payloads_are_not_watched_values_are_not(self) -> None:
        rest = Rest(feed={"payloads": False})
        ((error),) = client(rest).subscribes()
        assert (error["errorCode"], error["errorMsg"]) == (
            3,
            "Values may not be watched here. feed.payloads is off.",
        )


class TestLimits:
    def test_one_subscription_more_than_may_is_an_error(self, rest: Rest) -> None:
        one = client(rest, max_subscriptions=2)
        found = one.says(cmds=[command(cmd_id=number) for number in range(3)])
        assert [each["errorCode"] for each in found] == [0, 0, 2]
        one.subscribes(cmd_id=0, unsubscribe=True)
        assert one.subscribes(cmd_id=7) == [update(7, {})]

    def test_the_keys_of_all_subscriptions_have_room_for_many_but_not_for_any_number(self, rest: Rest) -> None:
        one = client(rest)
        keys = ",".join(f"{number:04}" for number in range(5_000))
        answers = [one.subscribes(cmd_id=number, keys=keys)[0] for number in range(20)]
        room = MAX_KEYS // (len(keys) + 1)
        assert [each["errorCode"] for each in answers] == [0] * room + [2] * (20 - room)
        one.says(cmds=[command("TIMESERIES_UNSUBSCRIBE", 0)])
        assert one.subscribes(cmd_id=30, keys=keys)[0]["errorCode"] == 0

    def test_one_watcher_more_than_may_is_an_error_and_leaves_nothing(self) -> None:
        rest = Rest(feed={"max_watchers": 2})
        rest.session()
        one, other = client(rest), client(rest)
        assert [each["errorCode"] for each in one.says(cmds=[command(), command("ATTRIBUTES", 2)])] == [0, 0]
        assert len(rest.feed._tenants[rest.device.tenant_id].owners) == 1
        ((error),) = other.subscribes("ATTRIBUTES", scope="SERVER_SCOPE")
        assert error["errorCode"] == 2
        one.leaves()
        assert not rest.feed._tenants[rest.device.tenant_id].owners
        assert other.subscribes() == [update(1, {})]

    def test_too_many_commands_that_wait_close_it(self, rest: Rest) -> None:
        one = client(rest)
        with Slow(rest.store.values, "attributes"):
            one.subscribes("ATTRIBUTES")
            one.says(cmds=[command(cmd_id=number) for number in range(MAX_WAITING + 1)])
        assert one.code == 1008

    def test_who_does_not_read_is_closed_and_hears_nothing_wrong(self, rest: Rest) -> None:
        slow, other = client(rest), client(rest)
        for one in (slow, other):
            one.subscribes()
        slow.room = 2
        for number in range(5):
            post(rest, {"a": number})
        assert len(slow.sent) == 2
        assert slow.code == 1013
        assert len(other.sent) == 5

    def test_who_does_not_read_what_there_is_either(self, rest: Rest) -> None:
        one = client(rest)
        one.room = 1
        one.says(cmds=[command(cmd_id=number) for number in range(5)])
        assert one.code == 1013
        assert not rest.feed._tenants[rest.device.tenant_id].owners

    def test_who_does_not_read_what_the_store_told_late(self, rest: Rest) -> None:
        one = client(rest)
        with Slow(rest.store.values, "attributes") as slow:
            one.says(cmds=[command("ATTRIBUTES", 1), command("ATTRIBUTES", 2)])
            one.room = 0
            slow.arrive()
        assert one.code == 1013
        assert not rest.feed._tenants[rest.device.tenant_id].owners

    def test_nothing_is_left_of_who_is_gone(self, rest: Rest) -> None:
        one = client(rest)
        one.says(cmds=[command(), command("ATTRIBUTES", 2)])
        with Slow(rest.store.values, "attributes") as slow:
            one.subscribes("ATTRIBUTES", 3)
            one.leaves()
            assert not rest.feed._tenants[rest.device.tenant_id].owners
            slow.arrive()
        one.heard()
        post(rest, {"a": 1})
        rest.clock.pump([1.0] * 100)
        assert one.heard() == []
        one.leaves()
        one.sends(b'{"cmds":[]}')

    def test_a_fault_of_ours_closes_it(
        self, rest: Rest, monkeypatch: pytest.MonkeyPatch, no_dropped_failures: list[str]
    ) -> None:
        def broken(_: Any) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(socket_module, "_require_points", broken)
        one = client(rest)
        assert one.subscribes() == []
        assert one.code == 1011
        assert "a bug" in no_dropped_failures.pop()
