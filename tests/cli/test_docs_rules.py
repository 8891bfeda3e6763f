"""docs/rules.md and docs/tbel.md: the commands are run as they stand there, and the tables are those of the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from real_shell import RealShell

from rpcbroker.core import jsontext
from rpcbroker.rules import tbel_names
from rpcbroker.rules.dry_ports import DryMessage
from rpcbroker.rules.nodes.table import NODE_TYPES
from rpcbroker.rules.types import LABELS

CONF = Path(__file__).parent.parent.parent / "conf"
DOCS = CONF.parent / "docs"
RULES = (DOCS / "rules.md").read_text()
TBEL = (DOCS / "tbel.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", RULES, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("rpcbroker rules ")
]
WAITS_FOR_NOTHING = {"openDoor", "--offline"}
"""What is shown because nobody is answered."""


def test_each_command_runs(real: RealShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf").symlink_to(CONF)
    real.as_admin()
    assert len(COMMANDS) >= 9
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        done = real.run(*words)
        assert done.exit_code == int(bool(WAITS_FOR_NOTHING & set(words))), (command, done.output)


def test_each_command_of_rules_is_told(real: RealShell) -> None:
    told = set(re.findall(r"^\| `rpcbroker rules ([a-z]+)", RULES, re.MULTILINE))
    helped = real.says("rules", "--help").partition("Commands:\n")[2]
    assert told == {line.split()[0] for line in helped.splitlines() if re.match(r"  \w", line)}


def test_the_message_that_is_shown_is_one(real: RealShell, tmp_path: Path) -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```$", RULES, re.MULTILINE | re.DOTALL)
    jsontext.decode_as(DryMessage, text.encode())
    file = tmp_path / "message.json"
    file.write_text(text)
    path = json.loads(real.as_admin().run("rules", "test", "Root Rule Chain", f"@{file}", "--json").stdout)
    assert path["steps"][0]["message"]["metadata"]["deviceName"] == "lamp-7"


def test_all_types_of_nodes_are_told_and_no_others() -> None:
    known = {name.rpartition(".")[2] for name in NODE_TYPES}
    assert set(re.findall(r"Tb\w+Node", RULES)) == {name for name in known if name.startswith("Tb")}
    assert {name for name in NODE_TYPES if name.startswith("rpcbroker.")} == set(
        re.findall(r"`(rpcbroker\.rules\.\w+)`", RULES)
    )


def test_all_examples_are_told() -> None:
    told = re.findall(r"^\| `([a-z-]+\.json)` \|", RULES, re.MULTILINE)
    assert sorted(told) == sorted(file.name for file in (CONF / "chains").iterdir())


def test_labels_are_those_of_the_switch() -> None:
    table = RULES.partition("## Messages")[2].partition("## ")[0]
    rows = [re.findall(r"`([^`]+)`", cell) for line in table.splitlines() for cell in line.split(" | ")[1:3]]
    pairs = [
        pair for types, labels in zip(rows[::2], rows[1::2], strict=True) for pair in zip(types, labels, strict=True)
    ]
    assert len(pairs) >= 9
    assert dict(pairs).items() <= LABELS.items()


def test_all_names_of_tbel_are_told_and_no_others() -> None:
    def names(title: str) -> set[str]:
        return set(re.findall(r"`([A-Za-z]\w*)`", TBEL.partition(f"\n## {title}\n")[2].partition("\n## ")[0]))

    statics = set(tbel_names.STATICS).union(*tbel_names.STATICS.values())
    assert names("Functions") == set(tbel_names.FUNCTIONS)
    assert names("Classes") - {"new"} == set(tbel_names.CLASSES) | statics
    assert names("Methods") == tbel_names.METHODS
    assert names("Types") == tbel_names.TYPES
