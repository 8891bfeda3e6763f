"""The paths of the device API."""

from __future__ import annotations

import pytest

from rpcbroker.transports.paths import Feature, NoSuchPath, Target, target


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("T/rpc", Target(Feature.RPC, "T")),
        ("T/RPC", Target(Feature.RPC, "T")),
        ("T/rpc/7", Target(Feature.REPLY, "T", 7)),
        ("T/rpc/-1", Target(Feature.REPLY, "T", -1)),
        ("T/Rpc/7/Progress", Target(Feature.PROGRESS, "T", 7)),
        ("T/telemetry", Target(Feature.TELEMETRY, "T")),
        ("T/attributes", Target(Feature.ATTRIBUTES, "T")),
        ("T/attributes/updates", Target(Feature.UPDATES, "T")),
        ("T/claim", Target(Feature.CLAIM, "T")),
        ("T/firmware", Target(Feature.FIRMWARE, "T")),
        ("T/software", Target(Feature.SOFTWARE, "T")),
        ("provision", Target(Feature.PROVISION, None)),
        ("provision/telemetry", Target(Feature.TELEMETRY, "provision")),
        ("rpc/rpc", Target(Feature.RPC, "rpc")),
    ],
)
def test_a_path_leads_somewhere(path: str, wanted: Target) -> None:
    assert target(path.split("/")) == wanted


@pytest.mark.parametrize(
    ("path", "wanted"), [("rpc", Target(Feature.RPC, None)), ("rpc/7", Target(Feature.REPLY, None, 7))]
)
def test_a_device_with_a_certificate_leaves_the_token_out(path: str, wanted: Target) -> None:
    assert target(path.split("/"), has_token=False) == wanted


@pytest.mark.parametrize(
    "path",
    [
        "T",
        "",
        "T/",
        "T/rpc/",
        "T/rpc/x",
        "T/rpc/2147483648",
        "T/rpc/7/x",
        "T/rpc/7/progress/x",
        "T/rpc/٣",
        "T/nothing",
        "T/rpc/1e3",
        "T/rpc/ 7",
        "T/telemetry/x",
        "provision/x",
        "T/rpc/99999999999",
    ],
)
def test_a_path_that_leads_nowhere_is_refused_without_showing_the_token(path: str) -> None:
    with pytest.raises(NoSuchPath) as error:
        target(path.split("/"))
    assert "T/" not in str(error.value)
