"""What goes wrong in rule chains."""

from __future__ import annotations

from rpcbroker.core.errors import BrokerError
from rpcbroker.rules.message import RuleMessage


class NodeFailed(Exception):
    """A node could not do its work: the message goes on under `Failure`, with this text.

    `message` goes on instead of the one that came in, if there is one. `cause` is why the broker could not keep what
    the message says: a device that sent it hears that, if nothing in the chain handles the failure.
    """

    def __init__(self, text: str, message: RuleMessage | None = None, cause: BrokerError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.message = message
        self.cause = cause


class BadConfiguration(ValueError):
    """A node cannot be made as it is configured; the message names the field."""
