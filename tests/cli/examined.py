"""A broker's machine for `rpcbroker doctor`, and what is expected of a check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rpcbroker.cli.checks import clock
from rpcbroker.cli.checks.subject import Level, Subject, Verdict, Verdicts
from rpcbroker.cli.checks.table import look
from rpcbroker.config import load

NOW = clock.RELEASED + 86_400.0
OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
FREE = "tcp:0:interface=127.0.0.1"
FREE_UDP = "udp:0:interface=127.0.0.1"


def subject_of(state_dir: Path, **more: Any) -> Subject:
    listeners = {
        "RPCBROKER_HTTP_LISTEN": more.pop("http", FREE),
        "RPCBROKER_MQTT_LISTEN": more.pop("mqtt", FREE),
        "RPCBROKER_COAP_LISTEN": more.pop("coap", ""),
        "RPCBROKER_COAP_DTLS_LISTEN": more.pop("coaps", ""),
    }
    environ = listeners | more.pop("environ", {})
    return replace(look(load(None, environ), state_dir, now=NOW), synchronised=True, open_files=100_000, **more)


def said(verdicts: Verdicts, *expected: tuple[Level, str]) -> list[Verdict]:
    """The verdicts, of which there are as many as expected, with these levels and words; what is not good has a hint."""
    found = list(verdicts)
    assert [verdict.level for verdict in found] == [level for level, _ in expected], found
    for verdict, (level, words) in zip(found, expected, strict=True):
        assert words in verdict.text
        assert "\n" not in verdict.text
        assert (verdict.hint is None) == (level is OK)
    return found
