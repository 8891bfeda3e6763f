"""The clock: tokens of users, certificates and every time that is recorded depend on it."""

from __future__ import annotations

from datetime import UTC, datetime

from rpcbroker.cli.checks.subject import Subject, Verdicts, ok, problem, warning

RELEASED = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
"""No right clock is before the day on which this was written. An old value makes the check weaker, not wrong."""
SLACK = 60.0
"""Seconds by which a clock may have been put back since the newest record."""


def clock(subject: Subject) -> Verdicts:
    """Machines without a battery begin in the past, and with the network cable out they stay there."""
    shown, newest = _day(subject.now), (subject.examined.newest if subject.examined else 0) / 1000
    put_right = "Set it (timedatectl set-time, date --set) before the broker starts; a battery or NTP keeps it."
    if subject.now < RELEASED:
        yield problem(f"it says {shown}, which is before this program was made", put_right)
    elif subject.now < newest - SLACK:
        yield problem(f"it says {shown}, but the store has a record of {_day(newest)}", put_right)
    elif subject.synchronised is None:
        yield ok(f"it says {shown}; whether it is synchronised is not known")
    elif not subject.synchronised:
        yield warning(f"it says {shown}, and nothing keeps it synchronised", "timedatectl set-ntp true, or ptp, or gps")
    else:
        yield ok(f"it says {shown}, and is synchronised")


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
