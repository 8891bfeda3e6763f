"""A browser, a broker with a device, and the console in the one as it comes from the other.

Tests of a page are in `test_<page>_page.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "interop"))

from answering_device import AnsweringDevice
from browser import TOKEN, WIDE, Console, Look
from daemon import Daemon
from foreign import program
from playwright.sync_api import Browser, sync_playwright
from widgets import Stage, stage_of


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all tests of a module: each makes what it needs under names of its own. `ask` asks as the administrator."""
    daemon = Daemon(tmp_path_factory.mktemp("console")).login()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def device_id(broker: Daemon) -> str:
    """The device `hall`, which has the access token TOKEN."""
    return broker.add_device("hall", TOKEN)


@pytest.fixture
def device(broker: Daemon, device_id: str) -> Iterator[AnsweringDevice]:
    """It is there, can be called, and answers with the params."""
    device = AnsweringDevice(broker, TOKEN)
    broker.wait_callable(device_id)
    yield device
    device.close()


@pytest.fixture
def look() -> Look:
    """How the console is looked at; see `in_every_look`."""
    return WIDE


@pytest.fixture
def visitor(chromium: Browser, broker: Daemon, look: Look) -> Iterator[Console]:
    """The console, not opened yet, with nobody signed in. The test fails if the browser has anything to complain of."""
    console = Console(chromium, broker.http, look)
    yield console
    console.close()


@pytest.fixture
def console(visitor: Console) -> Console:
    """The console with the tenant's administrator signed in, at its first page."""
    return visitor.sign_in()


@pytest.fixture(scope="module")
def one_stage(broker: Daemon) -> Iterator[Stage]:
    """A device that answers all widgets, for all tests of a module."""
    with stage_of(broker) as stage:
        yield stage


@pytest.fixture
def stage(one_stage: Stage) -> Stage:
    """The same, as it was at first."""
    one_stage.begin()
    return one_stage
