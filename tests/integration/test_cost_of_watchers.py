"""What watchers cost callers: bench/feed.py, in short, and as a soak with what is wanted of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent.parent / "bench" / "feed.py"


def bench(*options: str, timeout: float) -> str:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_watcher_is_told_of_every_call_and_no_call_fails() -> None:
    """What a second shows on a busy machine: how fast it is, is for the soak."""
    told = bench("--seconds", "2", "--rounds", "1", timeout=120)
    for scene in ("own", "all"):
        pattern = r"each of its own" if scene == "own" else r"20 watchers of everything,"
        found = re.search(pattern + r".*?, (\d+) calls/s:\n.*?\n  with .*?, 0 errors, ([0-9,]+) events/s", told, re.S)
        assert found, told
        rate, events = int(found[1]), int(found[2].replace(",", ""))
        share = 0.9 if scene == "own" else 20.0
        assert events >= 3 * rate * share * 0.9, "a call has three events at least"


@pytest.mark.soak
def test_watchers_slow_no_call_and_take_no_memory_for_good() -> None:
    print(bench("--seconds", "10", "--rounds", "5", "--check", timeout=900))
