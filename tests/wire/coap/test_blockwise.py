"""Bodies in blocks."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.wire.coap.blockwise import Assembly, Block, Incomplete, TooLarge, cut, exponent_of
from rpcbroker.wire.coap.errors import BadOption, RequestError
from rpcbroker.wire.coap.numbers import Code

BLOCKS = [
    ("", Block(0, False, 0)),
    ("06", Block(0, False, 6)),
    ("0E", Block(0, True, 6)),
    ("1E", Block(1, True, 6)),
    ("0150", Block(21, False, 0)),
    ("FFFFFE", Block(0xFFFFF, True, 6)),
]


@pytest.mark.parametrize(("data", "block"), BLOCKS)
def test_blocks_are_read_and_written(data: str, block: Block) -> None:
    assert Block.decode(bytes.fromhex(data)) == block
    assert block.encode() == bytes.fromhex(data)


def test_a_block_number_has_20_bits() -> None:
    with pytest.raises(ValueError, match="20 bits"):
        Block(1 << 20, False, 0).encode()


@pytest.mark.parametrize("data", ["07", "0F", "FFFFFF"])
def test_size_7_is_reserved(data: str) -> None:
    with pytest.raises(BadOption) as caught:
        Block.decode(bytes.fromhex(data))
    assert caught.value.code == Code.BAD_REQUEST


@pytest.mark.parametrize(
    ("size", "exponent"), [(0, 0), (15, 0), (16, 0), (31, 0), (32, 1), (512, 5), (1_023, 5), (1_024, 6), (9_999, 6)]
)
def test_the_largest_block_of_at_most_so_many_bytes(size: int, exponent: int) -> None:
    assert exponent_of(size) == exponent


def test_a_smaller_block_begins_where_the_larger_one_did() -> None:
    assert Block(3, True, 6).limited(2) == Block(48, True, 2)
    assert Block(3, True, 2).limited(6) == Block(3, True, 2)
    assert Block(3, True, 6).limited(2).start == Block(3, True, 6).start == 3_072


@given(st.binary(max_size=300), st.integers(0, 3))
def test_a_body_is_cut_and_put_together_again(body: bytes, exponent: int) -> None:
    assembly = Assembly(300)
    number = 0
    while True:
        payload, block = cut(body, Block(number, False, exponent))
        whole = assembly.add(block, payload)
        if whole is not None:
            break
        assert block == Block(number, True, exponent)
        number += 1
    assert whole == body
    assert number == max(len(body) - 1, 0) // (16 << exponent)


@pytest.mark.parametrize(("size", "number"), [(0, 1), (15, 1), (16, 1), (17, 2), (32, 2), (32, 0xFFFFF)])
def test_there_is_no_block_beyond_the_end(size: int, number: int) -> None:
    with pytest.raises(BadOption) as caught:
        cut(bytes(size), Block(number, False, 0))
    assert caught.value.code == Code.BAD_REQUEST


def sixteen(letter: str) -> bytes:
    return letter.encode() * 16


Step = tuple[int, bool, int, bytes]

BODIES: list[tuple[str, list[Step], bytes]] = [
    ("one block", [(0, False, 6, b"abc")], b"abc"),
    ("an empty one", [(0, False, 6, b"")], b""),
    ("one that fills its block", [(0, False, 0, sixteen("a"))], sixteen("a")),
    ("two", [(0, True, 0, sixteen("a")), (1, False, 0, b"b")], sixteen("a") + b"b"),
    ("an end that is empty", [(0, True, 0, sixteen("a")), (1, False, 0, b"")], sixteen("a")),
    ("an end that comes early", [(0, True, 0, sixteen("a")), (1, False, 0, sixteen("b"))], sixteen("a") + sixteen("b")),
    (
        "the first one twice: the last wins",
        [(0, True, 0, sixteen("x")), (0, True, 0, sixteen("a")), (1, False, 0, b"b")],
        sixteen("a") + b"b",
    ),
    (
        "one in the middle twice: the last wins",
        [(0, True, 0, sixteen("a")), (1, True, 0, sixteen("x")), (1, True, 0, sixteen("b")), (2, False, 0, b"c")],
        sixteen("a") + sixteen("b") + b"c",
    ),
    (
        "one that comes again as the last one",
        [(0, True, 0, sixteen("a")), (1, True, 0, sixteen("b")), (1, False, 0, b"c")],
        sixteen("a") + b"c",
    ),
    (
        "anew from the first one on",
        [(0, True, 0, sixteen("a")), (1, True, 0, sixteen("b")), (0, True, 0, sixteen("c")), (1, False, 0, b"d")],
        sixteen("c") + b"d",
    ),
    (
        "smaller blocks from the second one on",
        [(0, True, 1, sixteen("a") * 2), (2, True, 0, sixteen("b")), (3, False, 0, b"c")],
        sixteen("a") * 2 + sixteen("b") + b"c",
    ),
    (
        "larger blocks, which fit",
        [(0, True, 0, sixteen("a")), (1, True, 0, sixteen("b")), (1, False, 1, b"c")],
        sixteen("a") + sixteen("b") + b"c",
    ),
]


@pytest.mark.parametrize(("steps", "body"), [pytest.param(*rest, id=name) for name, *rest in BODIES])
def test_bodies_that_come(steps: list[Step], body: bytes) -> None:
    assembly = Assembly(100)
    results = [assembly.add(Block(number, more, exponent), payload) for number, more, exponent, payload in steps]
    assert results == [None] * (len(steps) - 1) + [body]


FIRST: Step = (0, True, 0, sixteen("a"))
WRONG: list[tuple[str, list[Step], Step, int]] = [
    ("a start in the middle", [], (1, True, 0, sixteen("b")), Code.REQUEST_ENTITY_INCOMPLETE),
    ("the end alone", [], (7, False, 0, b"b"), Code.REQUEST_ENTITY_INCOMPLETE),
    ("a gap", [FIRST], (2, True, 0, sixteen("c")), Code.REQUEST_ENTITY_INCOMPLETE),
    ("a gap before the end", [FIRST], (2, False, 0, b"c"), Code.REQUEST_ENTITY_INCOMPLETE),
    (
        "one that is long past",
        [FIRST, (1, True, 0, sixteen("b")), (2, True, 0, sixteen("c"))],
        (1, True, 0, sixteen("b")),
        Code.REQUEST_ENTITY_INCOMPLETE,
    ),
    ("a larger size that does not fit", [FIRST], (1, True, 1, sixteen("b") * 2), Code.REQUEST_ENTITY_INCOMPLETE),
    ("one that is shorter than it says", [FIRST], (1, True, 0, b"b"), Code.BAD_REQUEST),
    ("an empty one with more to come", [FIRST], (1, True, 0, b""), Code.BAD_REQUEST),
    ("one that is longer than it says", [FIRST], (1, True, 0, sixteen("b") + b"b"), Code.BAD_REQUEST),
    ("an end that is longer than it says", [FIRST], (1, False, 0, sixteen("b") + b"b"), Code.BAD_REQUEST),
    ("block 1,048,575", [FIRST], (0xFFFFF, True, 6, bytes(1_024)), Code.REQUEST_ENTITY_INCOMPLETE),
]


@pytest.mark.parametrize(("before", "step", "code"), [pytest.param(*rest, id=name) for name, *rest in WRONG])
def test_blocks_that_do_not_fit(before: list[Step], step: Step, code: int) -> None:
    assembly = Assembly(100)
    for number, more, exponent, payload in before:
        assert assembly.add(Block(number, more, exponent), payload) is None
    number, more, exponent, payload = step
    with pytest.raises(RequestError) as caught:
        assembly.add(Block(number, more, exponent), payload)
    assert caught.value.code == code
    assert isinstance(caught.value, Incomplete) is (code == Code.REQUEST_ENTITY_INCOMPLETE)
    assert len(assembly) == 16 * len(before)


@pytest.mark.parametrize(
    ("limit", "steps", "fits"),
    [
        (17, [(True, sixteen("a")), (False, b"b")], True),
        (16, [(False, sixteen("a"))], True),
        (15, [(False, sixteen("a"))], False),
        (16, [(True, sixteen("a"))], False),  # more is to come, and there is no room for it
        (17, [(True, sixteen("a")), (False, b"bc")], False),
    ],
)
def test_a_body_has_a_largest_size(limit: int, steps: list[tuple[bool, bytes]], fits: bool) -> None:
    assembly = Assembly(limit)
    for number, (more, payload) in enumerate(steps[:-1]):
        assembly.add(Block(number, more, 0), payload)
    last = Block(len(steps) - 1, steps[-1][0], 0), steps[-1][1]
    if fits:
        assert assembly.add(*last) == b"".join(payload for _, payload in steps)
        return
    with pytest.raises(TooLarge) as caught:
        assembly.add(*last)
    assert (caught.value.code, caught.value.limit) == (Code.REQUEST_ENTITY_TOO_LARGE, limit)


def test_a_body_that_is_announced_too_large_is_refused_at_its_first_block() -> None:
    with pytest.raises(TooLarge):
        Assembly(65_536).add(Block(0, True, 6), bytes(1_024), size1=4_000_000_000)
    with pytest.raises(TooLarge):
        Assembly(65_536).add(Block(0, True, 6), bytes(1_024), size1=65_537)
    assert Assembly(65_536).add(Block(0, True, 6), bytes(1_024), size1=65_536) is None


def test_an_endless_body_ends_at_the_limit() -> None:
    assembly = Assembly(65_536)
    for number in range(63):
        assert assembly.add(Block(number, True, 6), bytes(1_024)) is None
    for number in (63, 63, 64, 4_095):
        with pytest.raises((TooLarge, Incomplete)) as caught:
            assembly.add(Block(number, True, 6), bytes(1_024))
        assert isinstance(caught.value, TooLarge) is (number == 63)
        assert len(assembly) == 63 * 1_024


def test_a_body_takes_the_memory_of_what_has_come() -> None:
    tracemalloc.start()
    try:
        assembly = Assembly(1 << 30)
        assembly.add(Block(0, True, 6), bytes(1_024), size1=1 << 30)
        with pytest.raises(Incomplete):
            assembly.add(Block(0xFFFFF, True, 6), bytes(1_024))
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


def test_two_bodies_never_mix() -> None:
    one, other = Assembly(100), Assembly(100)
    one.add(Block(0, True, 0), sixteen("a"))
    other.add(Block(0, True, 0), sixteen("b"))
    assert one.add(Block(1, False, 0), b"a") == sixteen("a") + b"a"
    assert other.add(Block(1, False, 0), b"b") == sixteen("b") + b"b"
