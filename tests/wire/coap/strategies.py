"""What hypothesis needs to make any CoAP message."""

from __future__ import annotations

from hypothesis import strategies as st

from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import OptionNumber

CODES = st.integers(0, 255).filter(lambda code: code and code >> 5 not in (1, 6, 7))
NUMBERS = st.sampled_from(sorted(OptionNumber)) | st.integers(0, 0xFFFF)
VALUES = st.binary(max_size=20) | st.binary(min_size=250, max_size=300) | st.just(b"\xff")
OPTIONS = st.lists(st.tuples(NUMBERS, VALUES), max_size=20).map(
    lambda options: tuple(sorted(options, key=lambda option: option[0]))
)
EMPTY = st.builds(Message, st.integers(0, 3), st.just(0), st.integers(0, 0xFFFF))
MESSAGES = EMPTY | st.builds(
    Message,
    st.integers(0, 3),
    CODES,
    st.integers(0, 0xFFFF),
    st.binary(max_size=8),
    OPTIONS,
    st.binary(max_size=100),
)
