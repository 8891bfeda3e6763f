"""What devices ask the server over HTTP, where a rule chain answers."""

from __future__ import annotations

import json
from typing import Any

from http_world import HttpDevice, HttpWorld
from question_chain import Asker, Questions


class OverHttp(Asker):
    ok, nobody, timeout = 200, 404, 408

    def __init__(self, **settings: Any) -> None:
        world = HttpWorld()
        super().__init__(world, **settings)
        self._world = world
        self._devices: list[HttpDevice] = []

    def send(self, method: str) -> None:
        self._devices.append(self._world.http_device())
        self._devices[-1].ask("POST", "rpc", body=json.dumps({"method": method, "params": [1]}).encode())

    def said(self) -> list[Any]:
        answers = [answer for each in self._devices for answer in each.answers()]
        return [(answer.status, json.loads(answer.body)) for answer in answers]

    def leave(self) -> None:
        self._devices.pop().lose()


class TestQuestions(Questions):
    def asker(self, **settings: Any) -> Asker:
        return OverHttp(**settings)

    def test_how_long_a_question_waits_is_a_setting(self) -> None:
        asker = OverHttp(question_timeout=5)
        asker.send("never")
        assert asker.later(4.8) == []
        assert [status for status, _ in asker.later(0.2)] == [408]
