"""The ready-made chains of conf/chains that ask other servers, in either language."""

from __future__ import annotations

import pytest
from exported import EXAMPLES, LANGUAGES, exported_world
from fakes import TENANT
from pytest_twisted import ensureDeferred
from twisted.internet.defer import fail

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest
from rpcbroker.rules.ports import WebCallFailed, WebResponse

in_both_languages = pytest.mark.parametrize("language", LANGUAGES)


def response(body: bytes, status: int = 200, reason: str = "OK") -> WebResponse:
    return WebResponse(status=status, reason=reason, headers={"Content-Type": ("application/json",)}, body=body)


@in_both_languages
@ensureDeferred
async def test_a_webhook_answers_what_the_server_does_not_know(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "webhook.json", language=language)
        world.web.answers.append(response(b'{"celsius": 21}'))
        assert await world.ask("getForecast", b'{"hours":[1,2]}') == {"celsius": 21}
        [asked] = world.web.asked
        assert (asked.method, asked.url, asked.timeout) == ("POST", "https://example.com/rpc", 5.0)
        assert asked.headers == {"Content-Type": "application/json"}
        assert asked.body is not None
        assert jsontext.decode(asked.body) == {
            "method": "getForecast",
            "params": {"hours": [1, 2]},
            "deviceName": world.device.name,
            "deviceType": world.device.type,
        }
        assert await world.ask("ping") == "pong"
        assert len(world.web.asked) == 1


@in_both_languages
@ensureDeferred
async def test_a_webhook_that_fails_is_an_answer_with_the_reason(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "webhook.json", language=language)
        world.web.answers += [response(b"oh", 500, "Broken"), fail(WebCallFailed("nobody is there"))]
        assert await world.ask("x") == {"error": "500 Broken from POST https://example.com/rpc"}
        assert await world.ask("x") == {"error": "nobody is there"}


@in_both_languages
@ensureDeferred
async def test_a_webhook_changes_nothing_else(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "webhook.json", language=language)
        link = world.link(reply=b"1")
        assert world.rules.chains.routes(TENANT).calls
        assert (await world.call(CallRequest(method="set"))).payload == b"1"
        assert len(link.calls) == 1
        assert world.web.asked == []


@pytest.mark.parametrize(
    ("body", "granted"),
    [
        (b'{"granted": true}', True),
        (b'{"granted": false}', False),
        (b'{"granted": "yes"}', False),
        (b"[]", False),
        (b"true", False),
        (b"granted", False),
        (b"", False),
    ],
)
@in_both_languages
@ensureDeferred
async def test_a_door_opens_when_the_server_says_so_and_else_stays_closed(
    language: str, body: bytes, granted: bool
) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "door-access.json", language=language)
        world.web.answers.append(response(body))
        assert await world.ask("requestAccess", b'{"badge":"a\\"b"}') == {"granted": granted}
        [asked] = world.web.asked
        assert asked.url == "https://example.com/access"
        assert asked.body is not None
        assert jsontext.decode(asked.body) == {"door": world.device.name, "badge": 'a"b'}
        await world.quiet()
        stored = await world.broker.telemetry.latest(world.device.id, ["accessGranted"])
        assert jsontext.encode(stored["accessGranted"].value) == (b"true" if granted else b"false")


@ensureDeferred
async def test_to_a_door_only_true_is_true() -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "door-access.json", language="JS")
        world.web.answers.append(response(b'{"granted": 1}'))
        assert await world.ask("requestAccess", b'{"badge":"1"}') == {"granted": False}


@in_both_languages
@ensureDeferred
async def test_a_door_stays_closed_when_nobody_can_be_asked(language: str) -> None:
    async with exported_world() as world:
        await world.install(EXAMPLES / "door-access.json", language=language)
        world.web.answers += [response(b'{"granted": true}', 403, "No"), fail(WebCallFailed("nobody is there"))]
        for _ in range(2):
            assert await world.ask("requestAccess", b'{"badge":"1"}') == {"granted": False}
        assert await world.ask("requestAccess", b"null") == {"granted": False}
        assert await world.ask("ping") == "pong"
