"""For commands that ask much: a broker that is busy, or says that this is too much at once, is asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import deferLater

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.rest import Send

PATIENCE = 300.0
"""Seconds that a request may be put off in all."""


def patient(send: Send, clock: Any) -> Send:
    """Does what `send` does, again and again while the answer is 429 or 503: only for what may be done twice."""

    async def again(method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> Answer:
        left = PATIENCE
        while True:
            answer = await send(method, url, headers=headers, body=body)
            if answer.status not in (429, 503) or left <= 0:
                return answer
            given = answer.headers.get("retry-after", "")
            wait = min(float(given) if given.isdecimal() else 1.0, left)
            left -= wait
            await deferLater(clock, wait)

    return again
