"""What `PUT /api/tenant/device` says that it did, for those who import fleets."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from fakes import result_of
from rest import Rest

PATH = "/api/tenant/device?deviceName=lamp"


@pytest.fixture
def rest() -> Rest:
    return Rest()


async def put(rest: Rest, **body: Any) -> tuple[int, str, int]:
    status, answer, headers = await rest.ask("PUT", PATH, body)
    return status, headers.getRawHeaders("x-result")[0], answer["version"]


@pytest_twisted.ensureDeferred
async def test_the_result_is_in_a_header(rest: Rest) -> None:
    assert await put(rest, type="light") == (201, "created", 1)
    assert await put(rest, type="light") == (200, "unchanged", 1)
    assert await put(rest) == (200, "unchanged", 1)
    assert await put(rest, label="L") == (200, "changed", 2)
    assert await put(rest, credentials={"credentialsId": "t"}) == (200, "changed", 3)
    assert await put(rest, label="L", credentials={"credentialsId": "t"}) == (200, "unchanged", 3)


@pytest_twisted.ensureDeferred
async def test_what_changed_nothing_is_not_in_the_audit_log(rest: Rest) -> None:
    for label in ("a", "a", "b", "b"):
        await put(rest, label=label)
    result_of(rest.rest.flush())
    _, page, _ = await rest.ask("GET", "/api/audit/logs?pageSize=10&sortOrder=ASC")
    assert [(entry["actionType"], entry["entityName"]) for entry in page["data"]] == [
        ("ADDED", "lamp"),
        ("UPDATED", "lamp"),
    ]
