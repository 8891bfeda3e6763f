"""What all tests share: a dropped failure is a failed test."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import LogLevel, globalLogPublisher

sys.path.insert(0, str(Path(__file__).parent))

from postgres import postgresql  # noqa: F401 - a fixture for all


@pytest.fixture(autouse=True, scope="module")
def nothing_is_kept() -> Iterator[None]:
    """What was frozen for one module's tests is looked at again after it, or memory would only grow."""
    yield
    gc.unfreeze()
    gc.collect()


@pytest.fixture(autouse=True)
def no_dropped_failures(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Fails the test if a Deferred's failure was dropped, or something logged a critical event.

    A test that expects one empties the list.
    """
    seen: list[str] = []

    def observe(event: dict[str, object]) -> None:
        if event.get("log_level") is LogLevel.critical:
            seen.append(str(event.get("log_failure") or event))

    globalLogPublisher.addObserver(observe)
    gc.freeze()  # the collection after the test looks at what the test has made, and at nothing older
    yield seen
    gc.collect()
    globalLogPublisher.removeObserver(observe)
    assert not seen, f"logged at critical level: {seen}"
