"""DTLS records as OpenSSL leaves them in memory: one behind the other, to be sent in datagrams."""

from __future__ import annotations

from collections.abc import Iterator

HEADER = 13
"""Bytes before each record: type, version, epoch, sequence number, length (RFC 6347 4.1)."""


def datagrams(records: bytes, mtu: int) -> Iterator[bytes]:
    """As many records in a datagram as it takes, and one at least (RFC 6347 4.1.1)."""
    start = end = 0
    while end < len(records):
        after = end + HEADER + int.from_bytes(records[end + 11 : end + HEADER], "big")
        if after - start > mtu and end > start:
            yield records[start:end]
            start = end
        end = after
    if records:
        yield records[start:]
