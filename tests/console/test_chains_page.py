"""The console's rule chains: the list, one as a drawing, and messages that are tried in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import Console, in_every_look
from daemon import Daemon
from playwright.sync_api import Locator, expect

EVIL = "<img src=x onerror=alert(1)>"
RULES = "org.thingsboard.rule.engine"
READY_MADE = Path(__file__).parents[2] / "conf" / "chains"
DELAY = {"periodInSeconds": 60, "maxPendingMsgs": 10}
DOOR = READY_MADE / "door-access.json"


def chain_file(name: str, nodes: list[dict[str, Any]], connections: list[tuple[int, int, str]]) -> dict[str, Any]:
    return {
        "ruleChain": {"name": name, "type": "CORE"},
        "metadata": {
            "firstNodeIndex": 0,
            "nodes": nodes,
            "connections": [{"fromIndex": start, "toIndex": end, "type": label} for start, end, label in connections],
        },
    }


def logs(count: int) -> list[dict[str, Any]]:
    """Nodes with hostile names that log, and fail."""
    script = "throw 'no';"
    configuration = {"scriptLang": "JS", "jsScript": script, "tbelScript": script}
    return [
        {"type": f"{RULES}.action.TbLogNode", "name": f"{EVIL}{n}", "configuration": configuration}
        for n in range(count)
    ]


def imported(broker: Daemon, file: Any) -> str:
    """Its id."""
    status, results = broker.ask("POST", "/api/ruleChains/import", file)
    assert status == 200, results
    chain_id: str = results[0]["ruleChainId"]["id"]
    return chain_id


def root(broker: Daemon) -> str:
    chains = broker.ask("GET", "/api/ruleChains?pageSize=100&page=0")[1]["data"]
    chain_id: str = next(chain["id"]["id"] for chain in chains if chain["root"])
    return chain_id


def row(console: Console, name: str) -> Locator:
    return console.page.get_by_role("row").filter(has=console.page.get_by_role("link", name=name, exact=True))


def node(console: Console, name: str) -> Locator:
    return console.page.locator(".graph").get_by_role("button", name=name)


@in_every_look
def test_chains_are_listed_with_the_root_marked(console: Console, broker: Daemon) -> None:
    imported(broker, chain_file(f"{EVIL}{console.look}", logs(1), []))
    console.open("#/chains")
    expect(row(console, f"{EVIL}{console.look}")).to_be_visible()
    expect(row(console, "Root Rule Chain")).to_contain_text("root")
    console.check()


def test_a_file_is_imported_and_exported_again_as_it_was(console: Console, broker: Daemon) -> None:
    page = console.open("#/chains").page
    page.get_by_role("button", name="Import").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("File").set_input_files(DOOR)
    console.check()
    dialog.get_by_role("button", name="Import").click()
    name = json.loads(DOOR.read_text())["ruleChain"]["name"]
    dialog.get_by_role("link", name=name).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = json.loads(download.value.path().read_text())
    given = json.loads(DOOR.read_text())
    assert file["ruleChain"]["name"] == name
    assert [each["name"] for each in file["metadata"]["nodes"]] == [each["name"] for each in given["metadata"]["nodes"]]
    assert not any("id" in each for each in file["metadata"]["nodes"])
    assert broker.ask("POST", "/api/ruleChains/import?overwrite=true", file)[0] == 200


def test_a_file_that_is_no_chain_is_refused_with_the_reason(console: Console, tmp_path: Path) -> None:
    page = console.open("#/chains").page
    page.get_by_role("button", name="Import").click()
    file = tmp_path / "no.json"
    file.write_text("{no JSON")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("dialog").get_by_role("button", name="Import").click()
    expect(page.get_by_role("log")).to_contain_text("no.json is no JSON")
    other = tmp_path / "other.json"
    other.write_text("{}")
    page.get_by_label("File").set_input_files(other)
    with console.expecting("400"):
        page.get_by_role("dialog").get_by_role("button", name="Import").click()
        expect(page.get_by_role("log")).to_contain_text("metadata")


def test_another_chain_becomes_the_root_and_one_is_deleted_only_after_asking(console: Console, broker: Daemon) -> None:
    first = root(broker)
    imported(broker, chain_file("next root", logs(1), []))
    page = console.open("#/chains").page
    try:
        row(console, "next root").get_by_role("button", name="Make root").click()
        page.get_by_role("dialog").get_by_role("button", name="Make it the root").click()
        expect(row(console, "next root").get_by_role("button", name="Delete")).to_have_count(0)
        assert root(broker) != first
    finally:
        broker.ask("POST", f"/api/ruleChain/{first}/root")
    imported(broker, chain_file("unwanted", logs(1), []))
    console.open("#/overview").open("#/chains")
    console.delete(row(console, "unwanted"))


@in_every_look
def test_a_message_is_tried_and_its_path_lights_up(console: Console, broker: Daemon) -> None:
    page = console.open(f"#/chain/{root(broker)}").page
    expect(node(console, "Message Type Switch")).to_be_visible()
    page.get_by_label("Method").fill(f"set{EVIL}")
    page.get_by_label("Params").fill('{"pin": 7}')
    page.get_by_role("button", name="Test", exact=True).click()
    path = page.get_by_role("list", name="Path of the message")
    expect(path).to_contain_text("RPC Request to Device")
    expect(path).to_contain_text(f"set{EVIL}")
    expect(page.get_by_text("Who waits for an answer gets:")).to_be_visible()
    expect(node(console, "Message Type Switch TbMsgTypeSwitchNode the first node passed")).to_be_visible()
    expect(page.locator(".graph .node.lit")).to_have_count(2)
    expect(page.locator(".graph .edge.lit")).to_have_count(1)
    console.check()
    page.get_by_role("button", name="First", exact=True).click()
    expect(page.locator(".graph .node.lit")).to_have_count(1)
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.locator(".graph .node.lit")).to_have_count(2)


def test_nothing_happens_when_a_message_is_tried(console: Console, broker: Daemon) -> None:
    before = broker.ask("GET", "/api/rpc?pageSize=10")[1]["totalElements"]
    page = console.open(f"#/chain/{root(broker)}").page
    page.get_by_label("Method").fill("tried")
    page.get_by_text("What the message finds").click()
    page.get_by_label("The device is offline").check()
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_text("Who waits gets no answer: The device is offline")).to_be_visible()
    assert broker.ask("GET", "/api/rpc?pageSize=10")[1]["totalElements"] == before


@pytest.mark.parametrize("file", sorted(READY_MADE.glob("*.json")), ids=lambda path: path.stem)
def test_ready_made_chains_are_drawn_with_no_node_upon_another(console: Console, broker: Daemon, file: Path) -> None:
    chain_id = imported(broker, json.loads(file.read_text()))
    console.open(f"#/chain/{chain_id}")
    nodes = console.page.locator(".graph .node")
    expect(nodes.first).to_be_visible()
    graph = broker.ask("GET", f"/api/ruleChain/{chain_id}/metadata")[1]
    boxes = [box for box in (each.bounding_box() for each in nodes.all()) if box]
    assert len(boxes) == len(graph["nodes"])
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            beside = abs(one["x"] - other["x"]) >= 170 or abs(one["y"] - other["y"]) >= 45
            assert beside, (one, other)


def test_a_node_is_reached_by_keyboard_and_tells_what_it_is_and_recorded(console: Console, broker: Daemon) -> None:
    delay = {"type": f"{RULES}.delay.TbMsgDelayNode", "name": "Delay", "configuration": DELAY}
    labels = [(0, 1, "Failure"), (1, 2, "Failure"), (2, 3, "Success"), (3, 0, "Success")]  # it goes round in a circle
    chain_id = imported(broker, chain_file(f"circle {EVIL}", [*logs(3), delay], labels))
    page = console.open(f"#/chain/{chain_id}").page
    node(console, f"{EVIL}0").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(node(console, f"{EVIL}1")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("region", name="Configuration")).to_contain_text("throw 'no';")
    page.get_by_role("definition").get_by_role("button", name=f"{EVIL}2").click()
    expect(page.get_by_role("heading", name=f"{EVIL}2")).to_be_focused()
    console.check()
    page.get_by_role("button", name="Record for 15 minutes").click()
    expect(page.get_by_role("button", name="Stop recording")).to_be_visible()
    page.get_by_role("button", name="Stop recording").click()
    expect(page.get_by_role("button", name="Record for 15 minutes")).to_be_visible()


def test_what_a_node_records_appears_by_itself(console: Console, broker: Daemon) -> None:
    device_id = broker.add_device("recorded", "recorded-token")
    first = root(broker)
    chain_id = imported(broker, chain_file("records", logs(1), []))
    page = console.open(f"#/chain/{chain_id}").page
    node(console, f"{EVIL}0").click()
    page.get_by_role("button", name="Record for 15 minutes").click()
    expect(page.get_by_role("button", name="Stop recording")).to_be_visible()
    try:
        assert broker.ask("POST", f"/api/ruleChain/{chain_id}/root")[0] == 200
        broker.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": EVIL, "timeout": 500})
        recorded = page.get_by_role("region", name="Recorded messages")
        expect(recorded.get_by_role("row").filter(has_text="OUT (Failure)")).to_contain_text(EVIL)
    finally:
        broker.ask("POST", f"/api/ruleChain/{first}/root")
    console.check()
