"""Signing in and out, and what one sees who has not."""

from __future__ import annotations

import pytest
from browser import Console, in_every_look
from daemon import EMAIL, PASSWORD, Daemon
from playwright.sync_api import expect


@in_every_look
@pytest.mark.screenshots
def test_signed_out_it_says_sign_in_and_nothing_goes_wrong(visitor: Console) -> None:
    visitor.open()
    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(visitor.page.get_by_role("navigation")).to_have_count(0)
    visitor.page.wait_for_load_state("networkidle")
    visitor.check()
    visitor.screenshot("sign-in")


@in_every_look
def test_a_wrong_password_is_told_as_an_alert_and_the_right_one_lets_in(visitor: Console) -> None:
    with visitor.expecting("401"):
        visitor.fill_in(EMAIL, PASSWORD + "!")
        expect(visitor.page.get_by_role("alert")).to_contain_text("password")
    visitor.check()
    visitor.sign_in()


def test_one_signs_in_by_keyboard_alone(visitor: Console) -> None:
    visitor.open()
    visitor.page.get_by_label("E-mail").focus()
    visitor.page.keyboard.type(EMAIL)
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.type(PASSWORD)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#main")).to_be_visible()


@in_every_look
def test_signing_out_shows_the_form_again_and_ends_the_session_at_the_broker(visitor: Console, broker: Daemon) -> None:
    with visitor.page.expect_response("**/api/auth/login") as answered:
        visitor.sign_in()
    token = answered.value.json()["token"]
    assert _status(broker, token) == 200
    visitor.sign_out()
    assert _status(broker, token) == 401


def test_nothing_of_a_session_outlives_the_page(console: Console) -> None:
    kept = console.page.evaluate("[...Object.values(localStorage), ...Object.values(sessionStorage), document.cookie]")
    assert "eyJ" not in "".join(kept)  # how a token begins
    assert PASSWORD not in "".join(kept)
    console.page.reload()
    expect(console.page.get_by_role("button", name="Sign in")).to_be_visible()


def _status(broker: Daemon, token: str) -> int:
    """What is answered to whoever shows this token."""
    other, broker.token = broker.token, token
    try:
        status, _ = broker.ask("GET", "/api/auth/user")
        return status
    finally:
        broker.token = other
