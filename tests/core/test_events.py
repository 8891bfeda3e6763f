"""Who is told of what."""

from __future__ import annotations

from rpcbroker.core.events import EventBus, ProvisioningEnded, TelemetryKept


def test_it_is_known_whether_anybody_listens() -> None:
    bus, heard = EventBus(), []
    assert ProvisioningEnded not in bus
    endings = [bus.listen(ProvisioningEnded, heard.append) for _ in range(2)]
    assert ProvisioningEnded in bus
    assert TelemetryKept not in bus
    bus.emit(ProvisioningEnded, "SUCCESS")
    assert heard == [ProvisioningEnded(1, "SUCCESS")] * 2
    for end in (*endings, *endings):  # to end what has ended changes nothing
        end()
    assert ProvisioningEnded not in bus
    bus.emit(ProvisioningEnded, "SUCCESS")
    assert len(heard) == 2
