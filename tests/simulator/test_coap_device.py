"""A device's side of CoAP, against a server that is spelled out message by message.

Over 400 lines: a device and the broker that it talks to are played message by message.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock

from rpcbroker.simulator.carrier import CRASH_PAUSE, GOODBYE, ConnectedDevice, Refused, Schedule
from rpcbroker.simulator.coap import REFRESH, CoapCarrier
from rpcbroker.simulator.coap_client import PATIENCE
from rpcbroker.simulator.device import SimulatedDevice
from rpcbroker.simulator.gpio import GpioBoard
from rpcbroker.simulator.widgets import WidgetBoard
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message, decode, encode
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type, uint

OBSERVE, PATH, FORMAT = OptionNumber.OBSERVE, OptionNumber.URI_PATH, OptionNumber.CONTENT_FORMAT
RPC = ((PATH, b"api"), (PATH, b"v1"), (PATH, b"TOKEN"), (PATH, b"rpc"))
JSON = (FORMAT, uint(50))
ECHO = b'{"id":7,"method":"echo","params":5}'
COUNT = b'{"id":8,"method":"countDown","params":{"seconds":2}}'
GIVEN_UP = 93.0
"""Seconds after which at the latest a message is not waited for any more (RFC 7252 4.8.2, MAX_TRANSMIT_WAIT)."""


class Wire:
    """The server's end of one socket."""

    def __init__(self) -> None:
        self.received: Any = None
        self.lost: Any = None
        self.deaf = False
        self.closed = False
        self.sent: list[Message] = []

    def send(self, datagram: bytes) -> None:
        if not self.deaf and not self.closed:
            self.sent.append(decode(datagram))

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)

    def heard(self) -> list[Message]:
        sent, self.sent = self.sent, []
        return sent

    def says(self, message: Message | bytes) -> None:
        if not self.deaf and not self.closed:
            self.received(message if isinstance(message, bytes) else encode(message))


class Staying:
    """A device that observes its calls, on a Clock."""

    def __init__(
        self,
        *,
        token: str | None = "TOKEN",
        schedule: Schedule | None = None,
        opens: Any = None,
        board: Any = None,
        **more: Any,
    ) -> None:
        self.clock = Clock()
        self.wires: list[Wire] = []
        self.told: list[str | None] = []
        self.outcome: list[Any] = []
        self.number = 0
        device = SimulatedDevice(board or GpioBoard((7,)), clock=self.clock, rng=Random(1), **more)
        carrier = CoapCarrier(opens or self._open, device, token, clock=self.clock, rng=Random(2))
        self.connected = ConnectedDevice(
            carrier, device, clock=self.clock, rng=Random(3), schedule=schedule, on_link=self.told.append
        )
        self.connected.run().addBoth(self.outcome.append)

    def _open(self) -> Deferred[Wire]:
        self.wires.append(Wire())
        return succeed(self.wires[-1])

    @property
    def wire(self) -> Wire:
        return self.wires[-1]

    def asked(self) -> Message:
        """The one message that came."""
        (message,) = self.wire.heard()
        return message

    def answer(self, request: Message, code: int, payload: bytes = b"", *options: tuple[int, bytes]) -> None:
        """Piggy-backed."""
        self.wire.says(Message(Type.ACK, code, request.message_id, request.token, tuple(options), payload))

    def accept(self) -> bytes:
        """Answer the registration; its token."""
        request = self.asked()
        self.answer(request, Code.VALID, b"", (OBSERVE, uint(1)))
        return request.token

    def up(self) -> Staying:
        self.token = self.accept()
        assert self.told[-1] is None
        return self

    def notify(
        self, payload: bytes, *options: tuple[int, bytes], kind: int = Type.CON, code: int = Code.CONTENT
    ) -> int:
        self.number += 1
        self.wire.says(Message(kind, code, self.number, self.token, ((OBSERVE, uint(self.number)), *options), payload))
        return self.number

    def ended(self) -> bool:
        return self.outcome == [None] and self.clock.getDelayedCalls() == [] and all(w.closed for w in self.wires)


def test_it_registers_and_is_up_when_the_registration_is_answered() -> None:
    staying = Staying()
    request = staying.asked()
    assert (request.type, request.code) == (Type.CON, Code.GET)
    assert request.options == ((OBSERVE, b""), *RPC)
    assert staying.told == []
    staying.answer(request, Code.VALID, b"", (OBSERVE, b"\1"))
    assert staying.told == [None]


def test_with_a_certificate_there_is_no_token_in_the_path() -> None:
    assert Staying(token=None).asked().options == ((OBSERVE, b""), *RPC[:2], RPC[3])


@pytest.mark.parametrize("confirmable", [True, False])
def test_an_answer_of_its_own_is_taken_too(confirmable: bool) -> None:
    staying = Staying()
    request = staying.asked()
    staying.wire.says(Message(Type.ACK, Code.EMPTY, request.message_id))
    assert staying.told == []
    kind = Type.CON if confirmable else Type.NON
    staying.wire.says(Message(kind, Code.VALID, 9, request.token, ((OBSERVE, b"\1"),)))
    assert staying.told == [None]
    assert staying.wire.heard() == ([Message(Type.ACK, Code.EMPTY, 9)] if confirmable else [])


@pytest.mark.parametrize("code", [Code.UNAUTHORIZED, Code.FORBIDDEN, Code.NOT_FOUND])
def test_refused_it_ends(code: int) -> None:
    staying = Staying()
    staying.answer(staying.asked(), code, b"who?")
    assert staying.outcome[0].check(Refused)
    assert "who?" in str(staying.outcome[0].value)
    assert staying.wire.closed
    assert staying.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("code", "options", "says"),
    [
        (Code.SERVICE_UNAVAILABLE, (), "5.03"),
        (Code.TOO_MANY_REQUESTS, (), "4.29"),
        (Code.CONTENT, (), "no further observation"),
    ],
)
def test_a_broker_that_cannot_now_is_asked_again_over_a_new_socket(code: int, options: Any, says: str) -> None:
    staying = Staying()
    staying.answer(staying.asked(), code, b"", *options)
    assert says in str(staying.told[-1])
    assert staying.wire.closed
    staying.clock.advance(1.0)
    assert len(staying.wires) == 2
    staying.up()


def test_a_call_is_acknowledged_and_answered() -> None:
    staying = Staying().up()
    number = staying.notify(ECHO)
    acknowledgement, reply = staying.wire.heard()
    assert acknowledgement == Message(Type.ACK, Code.EMPTY, number)
    assert (reply.type, reply.code, reply.payload) == (Type.CON, Code.POST, b"5")
    assert reply.options == (*RPC, (PATH, b"7"), JSON)
    staying.answer(reply, Code.CREATED)
    assert staying.told == [None]


def test_a_call_that_is_not_confirmable_is_only_answered() -> None:
    staying = Staying().up()
    staying.notify(ECHO, kind=Type.NON)
    assert staying.asked().payload == b"5"


def test_a_notification_that_comes_again_is_acknowledged_again_and_obeyed_once() -> None:
    staying = Staying().up()
    number = staying.notify(b'{"id":7,"method":"setValue","params":5}')
    _, reply = staying.wire.heard()
    staying.answer(reply, Code.CREATED)
    staying.number -= 1
    staying.notify(ECHO)
    assert staying.wire.heard() == [Message(Type.ACK, Code.EMPTY, number)]


def test_progress_is_posted_and_a_cancelled_call_is_not_answered() -> None:
    staying = Staying().up()
    staying.notify(COUNT)
    staying.wire.heard()
    staying.clock.advance(1.0)
    report = staying.asked()
    assert (report.options[4:6], report.payload) == (((PATH, b"8"), (PATH, b"progress")), b'{"left":1}')
    staying.answer(report, Code.CREATED)
    staying.notify(b'{"id":8,"cancel":true}')
    staying.wire.heard()
    staying.clock.advance(2.0)
    assert staying.wire.heard() == []


def test_one_request_is_on_its_way_at_a_time() -> None:
    staying = Staying().up()
    for number in (1, 2, 3):
        staying.notify(b'{"id":%d,"method":"echo","params":%d}' % (number, number))
    for number in (1, 2, 3):
        (reply,) = [message for message in staying.wire.heard() if message.code == Code.POST]
        assert reply.payload == b"%d" % number
        staying.answer(reply, Code.CREATED)


def test_what_is_not_acknowledged_is_sent_again_ever_more_slowly_and_then_given_up() -> None:
    staying = Staying()
    times = []
    for tenth in range(int(GIVEN_UP * 10) + 1):
        times += [tenth / 10] * len(staying.wire.heard())
        if staying.told:
            break
        staying.clock.advance(0.1)
    assert len(times) == 5
    gaps = [after - before for before, after in pairwise(times)]
    assert 2.0 <= gaps[0] <= 3.1
    assert all(1.9 < after / before < 2.1 for before, after in pairwise(gaps))
    assert staying.told == ["The broker has fallen silent."]
    assert staying.wire.closed


def test_an_acknowledged_request_that_is_never_answered_is_given_up() -> None:
    staying = Staying()
    staying.wire.says(Message(Type.ACK, Code.EMPTY, staying.asked().message_id))
    staying.clock.advance(PATIENCE)
    assert "did not answer" in str(staying.told[-1])
    assert staying.wire.heard() == []


def test_it_registers_again_with_the_same_token_when_nothing_was_heard() -> None:
    staying = Staying().up()
    staying.clock.advance(REFRESH - 1)
    assert staying.wire.heard() == []
    staying.wire.says(Message(Type.CON, Code.EMPTY, 77))  # a ping is a sign of life
    assert staying.wire.heard() == [Message(Type.RST, Code.EMPTY, 77)]
    staying.clock.advance(REFRESH - 1)
    assert staying.wire.heard() == []
    staying.clock.advance(1)
    assert staying.accept() == staying.token
    assert staying.told == [None]
    staying.clock.advance(REFRESH)
    staying.clock.pump([1.0] * int(GIVEN_UP))
    assert staying.told[-1] == "The broker has fallen silent."


def test_a_call_that_comes_while_it_registers_again_is_not_lost() -> None:
    staying = Staying().up()
    staying.clock.advance(REFRESH)
    request = staying.asked()
    number = staying.notify(ECHO)
    staying.answer(request, Code.VALID, b"", (OBSERVE, uint(3)))
    acknowledgement, reply = staying.wire.heard()
    assert (acknowledgement.message_id, reply.payload) == (number, b"5")
    assert staying.told == [None]


@pytest.mark.parametrize("code", [Code.UNAUTHORIZED, Code.NOT_FOUND])
def test_an_observation_that_the_broker_ends_is_begun_anew(code: int) -> None:
    staying = Staying().up()
    staying.wire.says(Message(Type.CON, code, 5, staying.token))
    assert "ended the observation" in str(staying.told[-1])
    staying.clock.advance(1.0)
    staying.up()


def test_what_belongs_to_nothing_is_reset() -> None:
    staying = Staying().up()
    staying.wire.says(Message(Type.CON, Code.CONTENT, 5, b"????", ((OBSERVE, b"\1"),), ECHO))
    assert staying.wire.heard() == [Message(Type.RST, Code.EMPTY, 5)]
    staying.wire.says(bytes((0x40 | 9, 0x45, 0, 6)))
    assert staying.wire.heard() == [Message(Type.RST, Code.EMPTY, 6)]
    for datagram in (b"", b"\x40", b"\x80\x00\x00\x00"):
        staying.wire.says(datagram)
    staying.wire.says(Message(Type.ACK, Code.CONTENT, 999, b"????"))
    assert staying.wire.heard() == []
    assert staying.told == [None]


def test_icmp_says_that_nobody_is_there() -> None:
    staying = Staying().up()
    staying.wire.lost("nobody listens there")
    assert staying.told[-1] == "The broker cannot be reached: nobody listens there."
    assert staying.wire.closed


def test_a_host_without_a_name_is_tried_again() -> None:
    staying = Staying(opens=lambda: fail(DNSLookupError("there is no such host")))
    assert "DNS lookup failed" in str(staying.told[-1])
    staying.connected.stop()
    assert staying.ended()


def test_a_proof_of_freshness_is_given_once() -> None:
    staying = Staying()
    staying.answer(staying.asked(), Code.UNAUTHORIZED, b"", (OptionNumber.ECHO, b"fresh"))
    request = staying.asked()
    assert (OptionNumber.ECHO, b"fresh") in request.options
    staying.answer(request, Code.UNAUTHORIZED, b"", (OptionNumber.ECHO, b"fresh"))
    assert staying.outcome[0].check(Refused)


# -- blocks

TEXT = b'"%b"' % (b"0123456789abcdef" * 200)
LARGE = b'{"id":7,"method":"echo","params":%b}' % TEXT


def fetched(staying: Staying, body: bytes) -> list[Message]:
    """Notify the first block, and answer for the others; what the device said besides."""
    more = len(body) > 1024
    staying.notify(body[:1024], (OptionNumber.BLOCK2, Block(0, more, 6).encode()))
    said = []
    while more:
        *others, request = staying.wire.heard()
        said += others
        value = dict(request.options)[OptionNumber.BLOCK2]
        wanted = Block.decode(value)
        assert request.code == Code.GET
        assert request.options == (*RPC, (OptionNumber.BLOCK2, value))
        more = wanted.start + 1024 < len(body)
        part = body[wanted.start : wanted.start + 1024]
        staying.answer(request, Code.CONTENT, part, (OptionNumber.BLOCK2, Block(wanted.number, more, 6).encode()))
    return said + staying.wire.heard()


def block1(message: Message) -> Block:
    return Block.decode(dict(message.options)[OptionNumber.BLOCK1])


def test_a_large_call_is_fetched_and_a_large_reply_is_given_block_by_block() -> None:
    staying = Staying().up()
    acknowledgement, part = fetched(staying, LARGE)
    assert acknowledgement.type == Type.ACK
    options = dict(part.options)
    tag = options[OptionNumber.REQUEST_TAG]
    assert options[OptionNumber.SIZE1] == uint(len(TEXT))
    body = b""
    while True:
        block = block1(part)
        assert (block.start, dict(part.options)[OptionNumber.REQUEST_TAG]) == (len(body), tag)
        body += part.payload
        if not block.more:
            break
        assert len(part.payload) == block.size
        # The broker wants smaller blocks from the second one on (RFC 7959 2.3).
        wanted = Block(block.number, True, 6 if block.number == 0 and block.exponent == 6 else 5)
        staying.answer(part, Code.CONTINUE, b"", (OptionNumber.BLOCK1, wanted.encode()))
        part = staying.asked()
    staying.answer(part, Code.CREATED)
    assert body == TEXT
    assert staying.told == [None]


def test_a_broker_that_wants_smaller_blocks_from_the_beginning_gets_them() -> None:
    staying = Staying().up()
    first = fetched(staying, LARGE)[-1]
    staying.answer(first, Code.REQUEST_ENTITY_TOO_LARGE, b"", (OptionNumber.BLOCK1, Block(0, False, 2).encode()))
    again = staying.asked()
    assert (block1(again), again.payload) == (Block(0, True, 2), TEXT[:64])
    staying.answer(again, Code.REQUEST_ENTITY_TOO_LARGE, b"", (OptionNumber.BLOCK1, Block(0, False, 2).encode()))
    assert staying.wire.heard() == []
    assert staying.told == [None]


@pytest.mark.parametrize(
    ("code", "block", "payload", "etag"),
    [
        (Code.NOT_FOUND, None, b"", b"e"),
        (Code.CONTENT, None, b"x", b"e"),
        (Code.CONTENT, Block(2, True, 6), b"x" * 1024, b"e"),
        (Code.CONTENT, Block(1, True, 6), b"x" * 1024, b"f"),
        (Code.CONTENT, Block(1, True, 6), b"", b"e"),
    ],
)
def test_blocks_that_do_not_go_on_are_the_end_of_the_connection(
    code: int, block: Block | None, payload: bytes, etag: bytes
) -> None:
    staying = Staying().up()
    named = (OptionNumber.ETAG, b"e")
    staying.number += 1
    options = (named, (OBSERVE, b"\5"), (OptionNumber.BLOCK2, Block(0, True, 6).encode()))
    staying.wire.says(Message(Type.CON, Code.CONTENT, 5, staying.token, options, b"x" * 1024))
    request = staying.wire.heard()[-1]
    more = () if block is None else ((OptionNumber.BLOCK2, block.encode()),)
    staying.answer(request, code, payload, (OptionNumber.ETAG, etag), *more)
    assert staying.told[-1] is not None
    assert staying.wire.closed


def test_nonsense_in_a_block_option_is_the_end_of_the_connection() -> None:
    staying = Staying().up()
    staying.notify(b"x", (OptionNumber.BLOCK2, b"\x0f"))
    assert "not CoAP" in str(staying.told[-1])


# -- leaving


def test_stopped_it_cancels_its_observation() -> None:
    staying = Staying().up()
    staying.connected.stop()
    request = staying.asked()
    assert (request.token, request.options) == (staying.token, ((OBSERVE, b"\1"), *RPC))
    assert staying.outcome == []
    staying.answer(request, Code.DELETED)
    assert staying.ended()
    assert staying.told == [None]


def test_stopped_it_waits_only_a_moment_for_the_answer() -> None:
    staying = Staying().up()
    staying.connected.stop()
    staying.clock.advance(GOODBYE)
    assert staying.ended()


def test_stopped_before_it_was_registered_it_ends() -> None:
    staying = Staying()
    staying.connected.stop()
    staying.answer(staying.asked(), Code.VALID, b"", (OBSERVE, b"\1"))
    staying.answer(staying.asked(), Code.DELETED)
    assert staying.ended()
    assert staying.told == []


def test_stopped_while_it_opens_a_socket_it_ends() -> None:
    staying = Staying(opens=Deferred)
    staying.connected.stop()
    assert staying.ended()


def test_what_is_to_be_posted_is_posted_before_it_leaves() -> None:
    staying = Staying().up()
    staying.notify(ECHO)
    staying.connected.stop()
    _, reply = staying.wire.heard()
    staying.answer(reply, Code.CREATED)
    staying.answer(staying.asked(), Code.DELETED)
    assert staying.ended()


def test_a_crash_is_silence_and_a_new_socket_with_a_new_token() -> None:
    staying = Staying(crash_after=2).up()
    first, token = staying.wire, staying.token
    staying.notify(ECHO)
    staying.notify(ECHO.replace(b"7", b"8"))
    first.heard()
    staying.clock.advance(CRASH_PAUSE - 0.1)
    staying.notify(ECHO)
    assert first.heard() == []
    assert not first.closed
    staying.clock.advance(0.1)
    assert first.closed
    assert staying.up().token != token


def test_asleep_it_says_nothing_and_awake_it_registers_with_the_same_token_over_the_same_socket() -> None:
    staying = Staying(schedule=Schedule(5.0, 55.0)).up()
    token = staying.token
    for _ in range(2):
        staying.clock.advance(4.9)
        staying.notify(ECHO)
        _, reply = staying.wire.heard()
        staying.answer(reply, Code.CREATED)
        staying.clock.advance(0.1)
        assert staying.told[-1] == "Asleep for 55 s."
        staying.notify(ECHO)
        staying.clock.advance(54.9)
        assert staying.wire.heard() == []
        staying.clock.advance(0.1)
        assert staying.up().token == token
    assert len(staying.wires) == 1
    assert not staying.wire.closed
    staying.clock.advance(5.0)
    staying.connected.stop()
    assert staying.ended()


def test_asleep_it_sends_nothing_again() -> None:
    staying = Staying(schedule=Schedule(5.0, 55.0)).up()
    staying.notify(ECHO)
    staying.notify(ECHO.replace(b"7", b"8"))
    staying.wire.heard()
    staying.clock.advance(5.0)
    staying.wire.heard()
    staying.clock.advance(54.0)
    assert staying.wire.heard() == []
    staying.clock.advance(1.0)
    staying.up()


def test_what_it_reports_is_telemetry() -> None:
    staying = Staying(board=WidgetBoard((7,), seconds=Clock().seconds)).up()
    posted = staying.asked()
    path = tuple(text for number, text in posted.options if number == OptionNumber.URI_PATH)
    assert (posted.code, path) == (Code.POST, (b"api", b"v1", b"TOKEN", b"telemetry"))
    assert posted.payload == b'{"value":0,"state":0,"7":false}'
