"""Random UUIDs by the hundred."""

from __future__ import annotations

import os
from itertools import islice
from uuid import RFC_4122

import pytest

from rpcbroker.host.random_ids import AT_ONCE, random_uuids


def test_they_are_of_version_4_and_never_the_same() -> None:
    drawn = list(islice(random_uuids(), 3 * AT_ONCE + 1))
    assert len(set(drawn)) == len(drawn)
    assert {(one.version, one.variant) for one in drawn} == {(4, RFC_4122)}


def test_all_other_bits_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for byte, wanted in (
        (b"\x00", "00000000-0000-4000-8000-000000000000"),
        (b"\xff", "ffffffff-ffff-4fff-bfff-ffffffffffff"),
    ):
        monkeypatch.setattr(os, "urandom", lambda size, byte=byte: byte * size)
        assert str(next(random_uuids())) == wanted
