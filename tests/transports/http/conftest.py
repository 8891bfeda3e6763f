"""Whatever devices say is said over the express lane, and the long way, through Twisted's parser."""

from __future__ import annotations

import pytest

from rpcbroker.web.channel import Channel


@pytest.fixture(params=["express lane", "long way"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "long way":
        monkeypatch.setattr(Channel, "_on_express_lane", False)
