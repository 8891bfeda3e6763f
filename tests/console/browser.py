"""The console in a browser, as a person meets it. Whatever it does wrong unseen is a fault, and fails the test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from daemon import EMAIL, PASSWORD
from foreign import NODE_MODULES
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, Request, Response, WebSocket, expect

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
SCREENSHOTS = "SCREENSHOTS"
"""Variable that, if set, has screenshots written into the docs: `make screenshots`."""
TOKEN = "the-device-in-the-hall"
"""Of the device that is there for all tests."""
PATIENCE = 10_000
"""Milliseconds that a browser on a busy machine may take to show something."""
expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True, slots=True)
class Look:
    """How somebody looks at the console."""

    width: int
    height: int
    scheme: str

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}"


WIDE, NIGHT = Look(1280, 800, "light"), Look(390, 844, "dark")
PICTURED = {WIDE: "", NIGHT: "-phone"}
"""Looks that the docs have pictures of, and how their names end."""
_MIXED = Look(1280, 800, "dark"), Look(390, 844, "light")
in_every_look = pytest.mark.parametrize(
    "look", [*PICTURED, *(pytest.param(look, marks=pytest.mark.soak) for look in _MIXED)], ids=str
)
"""For a test that takes `console`: it runs at both widths, light and dark. Without it: WIDE.

What does not fit depends on the width, and what cannot be read on the scheme: two looks find both, and `make soak`
tries the other two.
"""


@cache
def _axe() -> str:
    path = NODE_MODULES / "axe-core" / "axe.min.js"
    assert path.is_file(), "npm's axe-core is missing; `make test` installs it"
    return path.read_text()


class Console:
    """One page of a browser of its own (no cookie, nothing kept). Tests use `page`, Playwright's, for all else."""

    def __init__(self, browser: Browser, url: str, look: Look) -> None:
        self.url = url
        self.look = look
        self.context = browser.new_context(
            base_url=url,
            viewport={"width": look.width, "height": look.height},
            color_scheme=look.scheme,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        """What went wrong: each thing that was written to the browser's console, each error that nobody caught, each
        request that failed or was answered with an error, each that went elsewhere."""
        self._watch(self.page)

    def _watch(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._asked)
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)
        page.on("websocket", self._opened)
        page.on("dialog", self._interrupted)

    def _said(self, message: ConsoleMessage) -> None:
        self.faults.append(f"console {message.type}: {message.text} ({message.location['url']})")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url + "/", "data:", "blob:")):
            self.faults.append(f"elsewhere: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself did not want it any more
            self.faults.append(f"failed: {request.method} {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"answered {response.status}: {response.request.method} {response.url}")

    def _opened(self, socket: WebSocket) -> None:
        if not socket.url.startswith(self.url.replace("http", "ws", 1) + "/"):
            self.faults.append(f"elsewhere: {socket.url}")
        socket.on("socketerror", lambda error: self.faults.append(f"socket: {error} {socket.url}"))

    def _interrupted(self, dialog: Dialog) -> None:
        """As text that was run as a script would do it; the console itself has dialogs of its own."""
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    @contextmanager
    def expecting(self, pattern: str) -> Iterator[None]:
        """Faults of this block in which `pattern` is found are wanted, and there must be one. Such as `401`: an answer
        with that status makes two, for the browser tells its console too."""
        before = len(self.faults)
        yield
        self.settle()
        wanted = [fault for fault in self.faults[before:] if re.search(pattern, fault)]
        assert wanted, f"no fault says {pattern}: {self.faults[before:]}"
        self.faults = [fault for fault in self.faults if fault not in wanted]

    def settle(self) -> None:
        """What the browser has to tell is told when this returns."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    # -- what a person does

    def open(self, route: str = "#/overview") -> Console:
        """Go to a page; a route such as `#/devices` is reached without loading anything again."""
        if self.page.url == "about:blank":
            self.page.goto("/" + route)
        else:
            self.page.evaluate("route => { location.hash = route; }", route)
        return self

    def sign_in(self, email: str = EMAIL, password: str = PASSWORD) -> Console:
        """Fill in the form, on the page that is open or else the first one, and wait until one is signed in."""
        self.fill_in(email, password)
        expect(self.page.locator("#main")).to_be_visible()
        return self

    def sign_out(self) -> None:
        """And wait until the form is there again."""
        menu = self.page.get_by_role("button", name="Menu")
        if menu.is_visible():  # where there is no room for it
            menu.click()
        with self.page.expect_response("**/api/auth/logout"):
            self.page.get_by_role("button", name="Sign out").click()
        expect(self.page.get_by_role("button", name="Sign in")).to_be_visible()

    def fill_in(self, email: str, password: str) -> None:
        """The form of signing in, and press its button."""
        if self.page.url == "about:blank":
            self.open()
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def row(self, text: str) -> Locator:
        """That of a table which has this text."""
        return self.page.get_by_role("row").filter(has_text=text)

    def delete(self, row: Locator) -> None:
        """By the button in its row: think better of it first, then do it."""
        ask, dialog = row.get_by_role("button", name="Delete"), self.page.get_by_role("dialog")
        ask.click()
        dialog.get_by_role("button", name="Cancel").click()
        expect(row).to_be_visible()
        ask.click()
        dialog.get_by_role("button", name="Delete").click()
        expect(row).to_have_count(0)

    # -- what is looked at

    def check(self) -> None:
        """What is shown now can be used by all: no serious fault that axe finds, and nothing is wider than the window.

        Looked at while nothing moves: tests wait for what they open before they call it.
        """
        self.page.evaluate(_axe())
        found: list[dict[str, Any]] = self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations)"
        )
        serious = [
            f"{each['id']}: {each['help']}: {[(node['target'], node['html'][:200]) for node in each['nodes'][:5]]}"
            for each in found
            if each["impact"] in {"serious", "critical"}
        ]
        assert not serious, "\n".join(serious)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= self.look.width, f"the page is {width} px wide, the window {self.look.width}"

    def screenshot(self, name: str) -> None:
        """For the docs: of WIDE as docs/images/NAME.png, of NIGHT as NAME-phone.png, of other looks none. Written by
        `make screenshots` only, which runs what is marked so."""
        ending = PICTURED.get(self.look)
        if ending is not None and os.environ.get(SCREENSHOTS):
            IMAGES.mkdir(exist_ok=True)
            path = IMAGES / f"{name}{ending}.png"
            self.page.screenshot(path=path, animations="disabled", caret="hide", scale="css")

    def close(self) -> None:
        """Fails if there was a fault that no test expected."""
        if not self.page.is_closed():
            self.settle()
        self.context.close()
        assert not self.faults, "\n".join(self.faults)
