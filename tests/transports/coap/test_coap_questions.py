"""What devices ask the server over CoAP, where a rule chain answers."""

from __future__ import annotations

import json
from typing import Any

from coap_world import Coap
from fakes import World
from question_chain import Asker, Questions
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcbroker.core.errors import BrokerError
from rpcbroker.transports.coap.errors import refusal
from rpcbroker.transports.coap.exchange import Response
from rpcbroker.wire.coap.numbers import Code


class OverCoap(Asker):
    ok, nobody, timeout = Code.CONTENT, Code.NOT_FOUND, Code.GATEWAY_TIMEOUT

    def __init__(self, **settings: Any) -> None:
        world = World()
        super().__init__(world, **settings)
        self._coap = Coap(world=world)
        self.seconds = self._coap.settings.question_timeout
        self._answers: list[Response] = []
        self._there = True

    def send(self, method: str) -> None:
        request = self._coap.request(Code.POST, "rpc", json.dumps({"method": method, "params": [1]}).encode())

        def failed(failure: Failure) -> Response:
            failure.trap(BrokerError)
            return refusal(failure.value)

        try:
            answer = self._coap.site.handle(request)
        except BrokerError as error:
            answer = refusal(error)
        if isinstance(answer, Deferred):
            answer.addErrback(failed).addCallback(self._answers.append)
        else:
            self._answers.append(answer)

    def said(self) -> list[Any]:
        came = [(each.code, _body(each)) for each in self._answers]
        self._answers.clear()
        return came if self._there else []

    def leave(self) -> None:
        """There is no connection: the answer goes where the device was."""
        self._there = False


def _body(response: Response) -> Any:
    try:
        return json.loads(response.payload)
    except ValueError:
        return response.payload.decode()


class TestQuestions(Questions):
    def asker(self, **settings: Any) -> Asker:
        return OverCoap(**settings)
