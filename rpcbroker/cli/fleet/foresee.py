"""What an import would do, found out without doing it."""

from __future__ import annotations

from uuid import UUID

from msgspec import UNSET

from rpcbroker.cli import find
from rpcbroker.cli.answers import failure
from rpcbroker.cli.fleet.entries import Line
from rpcbroker.cli.fleet.put import FAILED, Outcome, refusal, whole_body
from rpcbroker.cli.rest import Rest
from rpcbroker.core.model import NULL_UUID, CredentialsType
from rpcbroker.schema.devices import CredentialsJSON, DeviceJSON, GivenCredentials, PutDeviceBody, PutResult
from rpcbroker.schema.people import CustomerJSON


class Foresee:
    """Compares with what is there. A token that is taken, and what the broker checks of values, it cannot see."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._customers: dict[str, UUID | str] = {"": NULL_UUID}

    async def bring(self, line: Line) -> Outcome:
        """See `put.Way`."""
        assert line.entry is not None
        body = await whole_body(self._rest, line)
        customer = None if body.customer_title is None else await self._customer(body.customer_title)
        if isinstance(customer, str):
            return Outcome(line, FAILED, customer)
        there = await find.device_by_name(self._rest, line.entry.name)
        if there is None:
            return Outcome(line, PutResult.CREATED)
        same = _same(body, there, customer) and await self._same_credentials(there, body.credentials)
        return Outcome(line, PutResult.UNCHANGED if same else PutResult.CHANGED)

    async def _customer(self, title: str) -> UUID | str:
        """Its id, or why there is none; each is asked for once."""
        if title not in self._customers:
            answer = await self._rest.try_request("GET", "/api/tenant/customers", customerTitle=title)
            if answer.status == 200:
                self._customers[title] = answer.read_as(CustomerJSON).id.id
            elif answer.status == 404:
                self._customers[title] = refusal(answer)
            else:
                raise failure(answer)
        return self._customers[title]

    async def _same_credentials(self, there: DeviceJSON, given: GivenCredentials | None) -> bool:
        if given is None:
            return True
        old = await self._rest.ask(CredentialsJSON, "GET", f"/api/device/{there.id.id}/credentials")
        if given.credentials_type is not old.credentials_type:
            return False
        if given.credentials_type is CredentialsType.ACCESS_TOKEN:
            return given.credentials_id in (None, old.credentials_id)
        return given.credentials_value in (None, old.credentials_value)


def _same(body: PutDeviceBody, there: DeviceJSON, customer: UUID | None) -> bool:
    return (
        (body.type is None or body.type.strip() == there.type)
        and (body.label is None or body.label == (there.label or ""))
        and (body.additional_info is UNSET or body.additional_info == there.additional_info)
        and (customer is None or customer == there.customer_id.id)
    )
