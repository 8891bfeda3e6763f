"""Messages of applications to the rule chains: a rest call reply node answers them."""

from __future__ import annotations

import re
from uuid import UUID

from rpcbroker.api.routes import Answer, Note
from rpcbroker.api.visible import Visible
from rpcbroker.core import access, jsontext
from rpcbroker.core.audit import AuditTrail, recorded
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import Principal
from rpcbroker.rules.message import DEVICE, USER, Originator
from rpcbroker.rules.system import RuleSystem

DEFAULT_TIMEOUT = 10.0
"""Seconds, as the vendors' SDKs expect it."""
_MILLISECONDS = re.compile(r"[0-9]{1,18}")


class RuleEngine:
    """The handlers of `/api/rule-engine`."""

    def __init__(self, rules: RuleSystem, *, visible: Visible, audit: AuditTrail, max_timeout: float) -> None:
        self.max_timeout = max_timeout
        """Seconds that a request may wait, whatever it says. Put another number here, and it holds from then on."""
        self._rules = rules
        self._visible = visible
        self._audit = audit

    async def of_user(self, principal: Principal, *, body: bytes, note: Note) -> Answer:
        """Send a message about yourself through the root rule chain; answered with what it replies, within 10 s."""
        access.require_rule_requests(principal)
        note.entity_type = USER
        note.about(principal.user_id, principal.email)
        return await self._ask(principal, Originator(USER, principal.user_id), body, note, DEFAULT_TIMEOUT)

    async def of_entity(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, body: bytes, note: Note
    ) -> Answer:
        """Send a message about a device through the root rule chain; answered with what it replies, within 10 s."""
        return await self._about(principal, entity_type, entity_id, body, note, DEFAULT_TIMEOUT)

    async def in_time(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, timeout: str, body: bytes, note: Note
    ) -> Answer:
        """Send a message about a device through the root rule chain; answered with what it replies, in so many ms."""
        return await self._about(principal, entity_type, entity_id, body, note, _seconds(timeout))

    async def in_queue(
        self,
        principal: Principal,
        *,
        entity_type: str,
        entity_id: UUID,
        queue_name: str,
        timeout: str,
        body: bytes,
        note: Note,
    ) -> Answer:
        """The same: there are no queues, and any name of one will do."""
        return await self._about(principal, entity_type, entity_id, body, note, _seconds(timeout))

    async def _about(
        self, principal: Principal, entity_type: str, entity_id: UUID, body: bytes, note: Note, timeout: float
    ) -> Answer:
        if entity_type != DEVICE:
            raise InvalidRequest(f"Only a DEVICE can be what a message is about here, not: {entity_type[:20]}")
        access.require_rule_requests(principal, about_device=True)
        device = await self._visible.device(principal, entity_id)
        note.about(device.id, device.name)
        return await self._ask(principal, Originator(DEVICE, device.id), body, note, timeout)

    async def _ask(self, principal: Principal, about: Originator, body: bytes, note: Note, timeout: float) -> Answer:
        try:
            data = jsontext.compact(body)
        except jsontext.BadJSON as error:
            raise InvalidRequest(f"Invalid request body: {error}") from None
        if self._audit.settings.payloads:
            note.data = {"request": recorded(jsontext.decode(data))}
        answer = await self._rules.rest_request(
            principal.tenant_id,
            about,
            data,
            timeout=min(timeout, self.max_timeout),
        )
        return Answer(answer)


def _seconds(timeout: str) -> float:
    if not _MILLISECONDS.fullmatch(timeout):
        raise InvalidRequest("timeout must be a number of milliseconds")
    return int(timeout) / 1000
