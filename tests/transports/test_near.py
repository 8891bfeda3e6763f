"""Which topic a device meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.core.near_misses import NearMiss
from rpcbroker.transports import dialect
from rpcbroker.transports.near import FILTERS, MAX_SHOWN, nearest

CALLS = dialect.RPC_REQUEST_FILTER
SLASH, PREFIX = NearMiss.LEADING_SLASH, NearMiss.WRONG_PREFIX
FILTER, TOPIC = NearMiss.UNKNOWN_FILTER, NearMiss.UNKNOWN_TOPIC


@pytest.mark.parametrize(
    ("text", "miss", "says"),
    [
        (f"/{CALLS}", SLASH, f"has subscribed to '/{CALLS}', which begins with a slash: {CALLS} is right"),
        (f"///{CALLS}", SLASH, f"{CALLS} is right"),
        (f"{CALLS}/", PREFIX, f"ends with a slash: {CALLS} is right"),
        (f"/{CALLS}/", PREFIX, "begins with a slash and ends with a slash"),
        (f" {CALLS}", PREFIX, "has blanks around it"),
        ("V1/Devices/Me/rpc/request/+", PREFIX, f"has capital letters: {CALLS} is right"),
        ("v1/devices/me//rpc/request/+", PREFIX, "has an empty level"),
        ("v1/device/me/rpc/request/+", PREFIX, f"does not begin with v1/devices/me: {CALLS} is right"),
        ("v1/devices/+/rpc/request/+", PREFIX, f"does not begin with v1/devices/me: {CALLS} is right"),
        ("v1/devices/me/rpc/request", PREFIX, f"lacks /+ at its end: {CALLS} is right"),
        ("/v1/devices/me/rpc/request", PREFIX, f"lacks /+ at its end: {CALLS} is right"),
        ("v1/devices/me/rpc/request/7", PREFIX, f"is for one id only: {CALLS} is right"),
        ("v1/devices/me/rpc/request/#", PREFIX, f"takes more than a device may have: {CALLS} is right"),
        ("v1/devices/me/#", PREFIX, f"{CALLS} is right"),
        ("v1/devices/me/rpc/#", PREFIX, f"{CALLS} is right"),
        ("v1/devices/me/rpc/cancel", PREFIX, "lacks /+ at its end: v1/devices/me/rpc/cancel/+ is right"),
        ("v1/devices/me/rpc/progress/7", FILTER, "which devices only publish to"),
        ("#", PREFIX, f"{CALLS} is right"),
        ("v1/devices/me/rpc/requests/+", PREFIX, f"which resembles {CALLS}"),
        ("v1/devices/me/telemetry", FILTER, "which devices only publish to"),
        ("home/kitchen", FILTER, "none of the topics"),
        ("+", FILTER, "none of the topics"),
    ],
)
def test_filters(text: str, miss: NearMiss, says: str) -> None:
    near = nearest(text, subscribing=True)
    assert near.miss is miss
    assert says in near.detail


@pytest.mark.parametrize(
    ("text", "miss", "says"),
    [
        ("/v1/devices/me/telemetry", SLASH, "has published to '/v1/devices/me/telemetry', which begins with a slash"),
        ("/v1/devices/me/rpc/response/7", SLASH, "v1/devices/me/rpc/response/7 is right"),
        ("v1/devices/me/telemetry/", PREFIX, "ends with a slash"),
        ("v1/devices/me/Telemetry", PREFIX, "has capital letters"),
        ("v1/devices/ToKeN/telemetry", PREFIX, "'v1/devices/.../telemetry', which does not begin with v1/devices/me: "),
        ("v1/devices/me/rpc/response", PREFIX, "lacks the id at its end: v1/devices/me/rpc/response/{id} is right"),
        ("v1/devices/me/rpc/respons/7", PREFIX, "which resembles v1/devices/me/rpc/response/{id}"),
        ("v1/me/telemetry", PREFIX, "which resembles v1/devices/me/telemetry"),
        ("v1/devices/me/attributes/response/7", TOPIC, "which devices only subscribe to"),
        ("v1/devices/me/rpc/cancel/7", TOPIC, "which devices only subscribe to"),
        ("v1/devices/me/rpc/progress", PREFIX, "lacks the id at its end: v1/devices/me/rpc/progress/{id} is right"),
        ("home/kitchen", TOPIC, "none of the topics"),
        ("", TOPIC, "none of the topics"),
        ("/", TOPIC, "none of the topics"),
        ("x" * 60_000, TOPIC, "none of the topics"),
    ],
)
def test_topics(text: str, miss: NearMiss, says: str) -> None:
    near = nearest(text, subscribing=False)
    assert near.miss is miss
    assert says in near.detail


@pytest.mark.parametrize(
    "text",
    [
        "v1/devices/SECRET/telemetry",
        "/v1/devices/SECRET/telemetry",
        "v1/device/SECRET/telemetry",
        "V1/Devices/SECRET/x",
        "api/v1/SECRET/telemetry",
        "/api/v1/SECRET/telemetry",
        "v1/devices/me/A1B2C3D4E5F6G7SECRET",
        "A1B2C3D4E5F6G7SECRET/telemetry",
        "A1B2C3D4E5F6G7SECRET",
    ],
)
@pytest.mark.parametrize("subscribing", [True, False])
def test_what_may_be_a_token_is_not_shown(text: str, subscribing: bool) -> None:
    assert "SECRET" not in nearest(text, subscribing=subscribing).detail.upper()


@pytest.mark.parametrize("known", FILTERS)
def test_every_filter_is_found_again_behind_a_slash(known: str) -> None:
    assert nearest(f"/{known}", subscribing=True).miss is SLASH


@pytest.mark.parametrize("known", dialect.UPLINKS)
def test_every_topic_is_found_again_behind_a_slash(known: str) -> None:
    assert nearest("/" + known.replace("{id}", "7"), subscribing=False).miss is SLASH
    assert nearest("/" + known.replace("{id}", "x"), subscribing=False).miss is (PREFIX if "{id}" in known else SLASH)


@given(st.text() | st.text(alphabet="v1/devicsmerpqut+#A0 ", max_size=60), st.booleans())
def test_whatever_the_topic_the_answer_is_a_short_line(text: str, subscribing: bool) -> None:
    detail = nearest(text, subscribing=subscribing).detail
    assert detail.isprintable()
    assert len(detail) <= 3 * MAX_SHOWN + 200
