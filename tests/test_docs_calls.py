"""The examples of docs/calls.md: the requests are made as they stand there, and the answers must be those."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from fakes import FakeLink, device, result_of
from rest import BASE, Rest
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import Call, CallState, Step, SubmitStrategy

PAGE = Path(__file__).parent.parent / "docs" / "calls.md"
EXAMPLE = re.compile(r"^```sh\n(curl [^\n]*)\n```\n\n```(json|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PUMP = replace(
    device(), id=UUID("784f394c-0000-4000-8000-000000000007"), name="pump-7", additional_info={"rpcCancel": True}
)


@dataclass
class Example:
    """A command, and what is said to come of it."""

    command: str
    kind: str
    answer: str

    def send(self, rest: Rest) -> Deferred[Any]:
        """The text of the answer."""
        words = shlex.split(self.command.replace("$DEVICE", str(PUMP.id)).replace("$B", BASE))
        assert words.pop(0) == "curl"
        method, headers, body, url = "GET", {}, None, ""
        while words:
            word = words.pop(0)
            if word == "-X":
                method = words.pop(0)
            elif word == "--json":
                method, body = "POST", words.pop(0).encode()
                headers["Content-Type"] = "application/json"
            elif word == "-H":
                name, _, value = words.pop(0).replace("$AUTH", f"X-Authorization: Bearer {rest.token}").partition(": ")
                headers[name] = value
            elif not word.startswith("-s"):
                url = word
        assert urlsplit(url).netloc
        waiting = rest.treq.request(method, url, data=body, headers=headers)
        waiting.addCallback(rest.treq.text_content)
        rest.treq.flush()
        return waiting

    def parsed(self, text: str) -> Any:
        return json.loads(text) if self.kind == "json" else text


EXAMPLES = [Example(*match) for match in EXAMPLE.findall(PAGE.read_text())]


class Scene:
    """The pump, and what it does at each example, in the order of the page."""

    def __init__(self) -> None:
        self.rest = Rest()
        self.rest.device = PUMP
        self.rest.add(PUMP)
        self.link: FakeLink | None = None

    def before(self, number: int) -> None:
        """What has happened when an example is begun."""
        rest = self.rest
        if number == 1:
            rest.clock.advance(30)
            self.link = rest.link(protocol="MQTT", step=None)
            self._report(Step.WRITTEN, Step.ACKNOWLEDGED)
            rest.session().receive(self._call.wire_id, b'{"ok":true}')
        if number == 2:
            rest.clock.advance(30)
        if number == 3:
            rest.clock.advance(21.988)
            body = {"method": "reboot", "persistent": True, "requestUUID": "5c1c8f5e-0000-4000-8000-000000000003"}
            result_of(Deferred.fromCoroutine(rest.ok("POST", rest.rpc("/api/rpc/oneway"), body)))
            self._report(Step.WRITTEN)

    def during(self, number: int) -> None:
        """What happens while the caller waits."""
        rest = self.rest
        if number == 2:
            self._report(Step.WRITTEN)
            rest.clock.advance(0.012)
            self._report(Step.ACKNOWLEDGED)
            for tell, payload in (
                (rest.session().progress, b'{"percent":50}'),
                (rest.session().receive, b'{"version":2}'),
            ):
                rest.clock.advance(4)
                tell(self._call.wire_id, payload)
        rest.treq.flush()

    @property
    def _call(self) -> Call:
        assert self.link is not None
        return self.link.calls[-1]

    def _report(self, *steps: Step) -> None:
        for step in steps:
            self.rest.session().report(self._call.wire_id, step)


def test_each_answer_has_an_example() -> None:
    paths = [re.sub(r"[0-9a-f-]{36}", "ID", each.command) for each in EXAMPLES]
    wanted = ("/rpc/twoway/", "/rpc/persistent/ID", "event-stream", "DELETE", "ID/timeline", "/api/rpc?")
    assert len(paths) == len(wanted)
    for path, part in zip(paths, wanted, strict=True):
        assert part in path
    assert PAGE.read_text().count("```json") == sum(each.kind == "json" for each in EXAMPLES)


def test_the_examples_are_true() -> None:
    scene = Scene()
    for number, example in enumerate(EXAMPLES):
        scene.before(number)
        waiting = example.send(scene.rest)
        scene.during(number)
        assert example.parsed(result_of(waiting)) == example.parsed(example.answer), example.command


def test_all_words_of_the_wire_are_explained() -> None:
    text = PAGE.read_text()
    for each in (*CallState, *SubmitStrategy):
        assert f"`{each.value}`" in text
