"""What devices ask over MQTT: the answer is a message of its own, and an error is one, too."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import BrokerError, QuestionTimedOut
from rpcbroker.core.questions import Question
from rpcbroker.core.sessions import DeviceSession


def ask(broker: Broker, session: DeviceSession, question: Question, answered: Callable[[bytes], None]) -> None:
    """Ask, and tell `answered` the JSON text of the answer, or `{"error":"..."}`; now or later, once."""

    def failed(failure: Failure) -> None:
        failure.trap(BrokerError)
        answered(_error(failure.value))

    try:
        answer = broker.ask(session, question)
    except BrokerError as error:
        answered(_error(error))
        return
    if isinstance(answer, Deferred):
        answer.addCallbacks(answered, failed)
    else:
        answered(answer)


def _error(error: BrokerError) -> bytes:
    text = "timeout" if isinstance(error, QuestionTimedOut) else error.message
    return jsontext.encode({"error": text})
