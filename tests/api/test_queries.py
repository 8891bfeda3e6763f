"""What stands behind the question mark."""

from __future__ import annotations

from uuid import UUID

import pytest
import pytest_twisted
from rest import Rest

DEVICES = "/api/deviceInfos/all?pageSize=10"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("&active=true", 200),
        ("&active=null", 400),
        (f"&deviceProfileId={UUID(int=5)}", 200),
        ("&deviceProfileId=null", 400),
        ("&page=null", 400),
        ("&textSearch=null", 200),
        ("&textSearch=%00", 400),
        ("&textSearch=%FF", 400),
        ("&sortProperty=", 200),
        ("&sortProperty=name", 200),
        ("&sortProperty=nothing", 400),
        ("&sortOrder=", 400),
        ("&unknown=null", 200),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_parameter_is_left_out_or_has_a_value(query: str, status: int) -> None:
    assert (await Rest().ask("GET", DEVICES + query))[0] == status


@pytest_twisted.ensureDeferred
async def test_a_bad_access_token_is_refused_also_where_none_is_needed() -> None:
    rest = Rest()
    for body in ({"name": "new"}, {"name": "changed", "id": {"entityType": "DEVICE", "id": str(rest.device.id)}}):
        assert (await rest.ask("POST", "/api/device?accessToken=a%2Fb", body))[0] == 400


@pytest.mark.parametrize("size", ["0", "-1", "1001"])
@pytest_twisted.ensureDeferred
async def test_a_page_has_a_size_also_of_a_type_that_no_device_has(size: str) -> None:
    rest = Rest()
    path = f"/api/tenant/deviceInfos?pageSize={size}&deviceProfileId={UUID(int=5)}"
    status, answer, _ = await rest.ask("GET", path)
    assert (status, answer["message"]) == (400, "pageSize must be 1 to 1000")
