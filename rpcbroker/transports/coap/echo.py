"""Whether an address is forged: who can say again what was sent there gets what is sent there (RFC 9175 2)."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from rpcbroker.transports.coap.peers import CoapPeer

FRESH = 300.0
"""Seconds for which a challenge can be answered."""

_TIME, _PROOF = 4, 8
"""Bytes: a guess among 2**64 is right."""


class Echo:
    """Makes challenges and knows them again; it remembers none of them (RFC 9175 appendix A, 2)."""

    def __init__(self, secret: bytes, seconds: Callable[[], float]) -> None:
        self._secret = secret
        self._seconds = seconds

    def challenge(self, peer: CoapPeer) -> bytes:
        """The value of an Echo option for it."""
        time = (int(self._seconds()) & 0xFFFFFFFF).to_bytes(_TIME, "big")
        return time + self._proof(peer, time)

    def proves(self, peer: CoapPeer, value: bytes) -> bool:
        """Whether this is a challenge that was sent to this address lately."""
        time, proof = value[:_TIME], value[_TIME:]
        if not hmac.compare_digest(proof, self._proof(peer, time)):
            return False
        return (int(self._seconds()) - int.from_bytes(time, "big")) & 0xFFFFFFFF <= FRESH

    def _proof(self, peer: CoapPeer, time: bytes) -> bytes:
        return hmac.digest(self._secret, time + repr(peer.address).encode(), "sha256")[:_PROOF]
