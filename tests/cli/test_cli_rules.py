"""`rpcbroker rules` with a broker: list, show, export, import, root, delete, test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from real_shell import RealShell
from rule_world import CALL, REPLY, RULES, SWITCH, graph

ENTER = f"{RULES}.flow.TbRuleChainInputNode"
ROOT = "Root Rule Chain"
QUESTION = "RPC Request from Device"
ANSWERING = graph([(SWITCH, "Switch", {}), (REPLY, "Reply", {})], (0, 1, QUESTION))


@pytest.fixture
def admin(real: RealShell) -> RealShell:
    return real.as_admin()


def exported(a_graph: Any, name: str = "Floor", **more: Any) -> dict[str, Any]:
    return {"ruleChain": {"name": name, "type": "CORE", **more}, "metadata": a_graph}


def put(admin: RealShell, directory: Path, value: Any, *options: str) -> str:
    """Import this; stdout."""
    file = directory / f"{uuid4()}.json"
    file.write_text(json.dumps(value))
    return admin.says("rules", "import", str(file), *options)


def names(admin: RealShell) -> dict[str, bool]:
    """Of all chains; whether it is the root."""
    return {each["name"]: each["root"] for each in json.loads(admin.says("rules", "list", "--json"))}


def test_the_default_chain_is_listed_as_the_root(admin: RealShell) -> None:
    title, *rows = admin.says("rules", "list").splitlines()
    assert title.split() == ["NAME", "ROOT", "ADDED", "(UTC)", "VERSION", "ID"]
    assert len(rows) == 1
    assert rows[0].startswith(f"{ROOT}  root")


def test_a_chain_is_shown_with_where_messages_go_on(admin: RealShell) -> None:
    shown = admin.says("rules", "show", ROOT)
    assert "Nodes       7" in shown
    assert "First node  2" in shown
    line = next(line for line in shown.splitlines() if line.startswith("2 "))
    assert line.split()[:5] == ["2", "Message", "Type", "Switch", "TbMsgTypeSwitchNode"]
    assert f"{QUESTION} -> 3; RPC Request to Device -> 5" in line


def test_a_chain_is_found_by_its_id(admin: RealShell) -> None:
    chain_id = json.loads(admin.says("rules", "list", "--json"))[0]["id"]["id"]
    assert admin.says("rules", "show", chain_id) == admin.says("rules", "show", ROOT)


@pytest.mark.parametrize("command", ["show", "export", "root"])
def test_a_chain_that_is_not_there(admin: RealShell, command: str) -> None:
    done = admin.run("rules", command, "Nothing")
    assert done.exit_code == 4
    assert "There is no rule chain named 'Nothing'." in done.stderr
    assert admin.run("rules", command, str(uuid4())).exit_code == 4


def test_two_chains_of_one_name_are_told_apart_by_their_ids(admin: RealShell, tmp_path: Path) -> None:
    for _ in range(2):
        put(admin, tmp_path, exported(ANSWERING))
    done = admin.run("rules", "show", "Floor")
    assert done.exit_code == 1
    assert "There are 2 rule chains named 'Floor'." in done.stderr
    assert "Give the id of one: " in done.stderr


def test_what_is_exported_can_be_imported_again(admin: RealShell, tmp_path: Path) -> None:
    file = tmp_path / "root.json"
    admin.says("rules", "export", ROOT, "-o", str(file))
    text = file.read_text()
    assert text == admin.says("rules", "export", ROOT)
    whole = json.loads(text)
    assert whole["ruleChain"]["id"] is None
    assert {node["id"] for node in whole["metadata"]["nodes"]} == {None}
    assert admin.says("rules", "import", str(file)).startswith("added ")
    assert len(json.loads(admin.says("rules", "list", "--json"))) == 2


def test_an_imported_chain_becomes_the_root(admin: RealShell, tmp_path: Path) -> None:
    done = put(admin, tmp_path, exported(ANSWERING), "--root")
    assert done.split()[0] == "added"
    assert names(admin) == {"Floor": True, ROOT: False}
    admin.says("rules", "root", ROOT)
    assert names(admin) == {"Floor": False, ROOT: True}


def test_a_chain_is_replaced_by_one_of_the_same_name(admin: RealShell, tmp_path: Path) -> None:
    added = put(admin, tmp_path, exported(ANSWERING)).split()[1]
    word, replaced, name = put(admin, tmp_path, exported(graph([(CALL, "Call", {})])), "--replace").split()
    assert (word, replaced, name) == ("replaced", added, "Floor")
    assert "TbSendRPCRequestNode" in admin.says("rules", "show", "Floor")


def test_a_chain_that_cannot_be_taken_is_refused_whole(admin: RealShell, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(exported(graph([("no.such.Node", "x", {})]))))
    done = admin.run("rules", "import", str(file))
    assert done.exit_code == 1
    assert "node 0 'x': the type 'no.such.Node' is not known here" in done.output
    assert list(names(admin)) == [ROOT]


def test_chains_that_enter_each_other_are_imported_together(admin: RealShell, tmp_path: Path) -> None:
    inner = {"entityType": "RULE_CHAIN", "id": str(uuid4())}
    outer = graph([(ENTER, "In", {"ruleChainId": inner["id"]})])
    files = []
    for number, chain in enumerate((exported(outer, "Outer"), exported(ANSWERING, "Inner", id=inner))):
        files.append(str(tmp_path / f"{number}.json"))
        Path(files[-1]).write_text(json.dumps(chain))
    rows = [line.split() for line in admin.says("rules", "import", *files).splitlines()]
    assert [(word, name) for word, _, name in rows] == [("added", "Outer"), ("added", "Inner")]
    path = admin.says("rules", "test", "Outer", "--ask", "open", "door=3")
    assert "Chain 'Inner':" in path
    assert path.splitlines()[-1] == 'The device that asked gets: {"method":"open","params":{"door":3}}'


def test_of_several_chains_the_root_is_the_one_that_says_so(admin: RealShell, tmp_path: Path) -> None:
    chains = {"ruleChains": [{"name": "A"}, {"name": "B", "root": True}], "metadata": [ANSWERING, ANSWERING]}
    put(admin, tmp_path, chains, "--root")
    assert names(admin) == {"A": False, "B": True, ROOT: False}
    chains["ruleChains"][1]["root"] = False
    file = tmp_path / "two.json"
    file.write_text(json.dumps(chains))
    done = admin.run("rules", "import", str(file), "--root")
    assert done.exit_code == 2
    assert "0 of these chains say that they are the root: A, B" in done.stderr
    assert not admin.requests


def test_a_chain_is_deleted_but_not_the_root(admin: RealShell, tmp_path: Path) -> None:
    put(admin, tmp_path, exported(ANSWERING))
    assert admin.run("rules", "delete", "Floor").exit_code == 2, "nobody is there to be asked"
    assert admin.run("rules", "delete", "Floor", "--yes").exit_code == 0
    assert list(names(admin)) == [ROOT]
    done = admin.run("rules", "delete", ROOT, "--yes")
    assert done.exit_code == 1
    assert "make another one the root first" in done.stderr


def test_a_message_is_tried_with_a_chain_of_the_broker(admin: RealShell) -> None:
    path = admin.says("rules", "test", ROOT, "--ask", "ping")
    assert path.splitlines()[0] == f"Chain '{ROOT}':"
    assert path.splitlines()[-1] == 'The device that asked gets: "pong"'
    assert {method for method, _, _ in admin.requests} == {"GET"}
