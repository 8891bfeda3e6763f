"""What a reload hands to the parts of a running broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from rpcbroker.config import describe, load, parse
from rpcbroker.core.setting import Duration, Rate, Size, UrlPath
from rpcbroker.core.settings import EnrolmentSettings, LimitsSettings, Settings
from rpcbroker.service import BrokerService

WHO_WORKS_BY: dict[str, Callable[[BrokerService], list[Any]]] = {
    "bulk": lambda broker: [broker.bulks.settings],
    "server": lambda broker: [broker._settings.server],
    "http": lambda broker: [broker._door.settings, broker.rest.site.settings, broker._settings.http],
    "http_devices": lambda broker: [broker.http_devices.settings],
    "mqtt": lambda broker: [broker.mqtt.settings],
    "coap": lambda broker: [broker.coap.settings],
    "rpc": lambda broker: [broker.broker._settings],
    "limits": lambda broker: [
        LimitsSettings(**{name: limit.rate for name, limit in broker.broker.quotas._limits.items()})
    ],
    "enrolment": lambda broker: [
        EnrolmentSettings(
            key_failures=broker.rest.provisioning._key_failures.rate,
            all_failures=broker.rest.provisioning._all_failures.rate,
            claim_failures=broker.rest.claiming._failures.rate,
            claim_duration=broker.rest.claiming._duration,
        )
    ],
    "telemetry": lambda broker: [broker.broker.telemetry.settings],
    "attributes": lambda broker: [broker.broker.attributes.settings],
    "auth": lambda broker: [
        part.settings
        for part in (
            broker.rest.tokens,
            broker.rest._passwords,
            broker.rest._lockout,
            broker.rest._activation,
            broker.rest._api_keys,
        )
    ],
    "audit": lambda broker: [broker.rest.trail.settings],
    "wamp": lambda broker: [broker.wamp.router.settings, broker._settings.wamp],
    "rules": lambda broker: [broker.rules.settings, broker._settings.rules],
    "feed": lambda broker: [broker.feed.settings, broker._keeper.settings, broker.wamp.router.feed],
}
"""The parts that read each section, as they have it."""

IN_THE_DAEMON = {"log"}
"""What `tap.Daemon` applies: tests/integration/test_reload.py."""

OTHER: dict[Any, object] = {Duration: "7m", Size: "7MiB", UrlPath: "/other", Rate: "7:7", int: 7, float: 7.5}


def live(section: Any) -> list[Field[Any]]:
    return [item for item in fields(section) if item.metadata["live"]]


def changed(section: Any, items: list[Field[Any]]) -> Any:
    """Another value for each of these settings."""
    hints = get_type_hints(type(section))
    new = {}
    for item in items:
        kind, old = hints[item.name], getattr(section, item.name)
        if kind is bool:
            new[item.name] = not old
        elif kind in OTHER:
            new[item.name] = parse(kind, OTHER[kind])
        elif kind is str or kind == tuple[str, ...]:
            new[item.name] = parse(kind, "other")
        else:
            new[item.name] = next(one for one in kind.__args__ if one != old)
        assert new[item.name] != old
    return replace(section, **new)


class Reactor(MemoryReactorClock):
    def callFromThread(self, action: Callable[..., object], *args: object) -> None:
        action(*args)


@pytest.fixture
def broker(tmp_path: Path) -> BrokerService:
    made = BrokerService(Settings(), state_dir=tmp_path, directory=tmp_path, environ={}, reactor=Reactor())
    made.running = 1
    return made


def test_every_section_with_a_live_setting_is_somebodys() -> None:
    sections = {section.name for section in fields(Settings) if live(getattr(Settings(), section.name))}
    assert sections == set(WHO_WORKS_BY) | IN_THE_DAEMON


@pytest.mark.parametrize("section", WHO_WORKS_BY)
def test_every_live_setting_reaches_the_parts_that_work_by_it(broker: BrokerService, section: str) -> None:
    old = getattr(Settings(), section)
    new = changed(old, live(old))
    with capturedLogs() as events:
        broker.reload(replace(Settings(), **{section: new}))
    parts = WHO_WORKS_BY[section](broker)
    assert parts
    for part in parts:
        assert part == new
    names = ", ".join(f"[{section}] {item.name}" for item in live(old))
    assert [formatEvent(event) for event in events] == [f"configuration read again; changed: {names}"]


def test_rates_reach_those_who_count(broker: BrokerService) -> None:
    http = Settings().http
    new = changed(http, live(http))
    broker.reload(replace(Settings(), http=new))
    who = broker.rest.who
    assert (who._tenants.rate, who._customers.rate, who._users.rate) == (
        new.tenant_rate,
        new.customer_rate,
        new.user_rate,
    )


def test_what_is_not_live_stays_and_is_named_in_one_warning(broker: BrokerService) -> None:
    sections, names = {}, []
    for section in fields(Settings):
        old = getattr(Settings(), section.name)
        others = [item for item in fields(old) if item not in live(old)]
        sections[section.name] = changed(old, others)
        names += [f"[{section.name}] {item.name}" for item in others]
    with capturedLogs() as events:
        broker.reload(Settings(**sections))
    assert [(event["log_level"], formatEvent(event)) for event in events] == [
        (LogLevel.info, "configuration read again; changed: nothing"),
        (LogLevel.warn, f"needs a restart: {', '.join(names)}"),
    ]
    assert broker._settings == Settings()


def test_the_marks_in_the_settings_are_those_that_config_show_knows() -> None:
    known = {(line.section, line.key): line.live for line in describe(load(None, {}))}
    for section in fields(Settings):
        for item in fields(getattr(Settings(), section.name)):
            assert known[section.name, item.name] == item.metadata["live"]


def test_without_new_settings_all_stay(broker: BrokerService) -> None:
    with capturedLogs() as events:
        broker.reload(None)
    assert not events
    assert broker._settings == Settings()


def test_a_broker_that_does_not_run_is_not_reloaded(broker: BrokerService) -> None:
    new = replace(Settings(), rpc=changed(Settings().rpc, live(Settings().rpc)))
    broker.running = 0
    broker.reload(new)
    broker.running = 1
    broker.rest.health.stopping = True
    broker.reload(new)
    assert broker._settings == Settings()
