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


@pytest.mark.parametrize(("scene", "rate", "readers"), [("own", 100, 0.9), ("all", 300, 20)])
def test_every_watcher_is_told_of_every_call_and_no_call_fails(scene: str, rate: int, readers: float) -> None:
    """What two seconds show on a busy machine: how fast it is, is for the soak."""
    told = bench("--seconds", "2", "--rounds", "1", "--only", scene, timeout=120)
    (found,) = re.findall(r"^  with .* (\d+) errors, ([0-9,]+) events/s;", told, re.MULTILINE)
    assert found[0] == "0", told
    events = int(found[1].replace(",", ""))
    assert events >= 3 * rate * readers * 0.8, f"a call has three events at least\n{told}"


@pytest.mark.soak
def test_watchers_slow_no_call_and_take_no_memory_for_good() -> None:
    print(bench("--seconds", "10", "--rounds", "5", "--check", timeout=900))
