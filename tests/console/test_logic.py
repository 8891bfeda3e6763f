"""What of the console needs no page: its state machines and tables, under node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from foreign import program

ROOT = Path(__file__).parent.parent.parent
TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_it_does_as_its_tests_under_node_say(path: Path) -> None:
    ran = subprocess.run(
        [program("node"), "--test", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-1000:]


def test_the_manual_has_every_widget_with_its_methods() -> None:
    manual = (ROOT / "docs" / "widgets.md").read_text()
    script = f"import {{ KINDS }} from '{ROOT}/rpcbroker/console/widgets/kinds.js'; console.log(JSON.stringify(KINDS))"
    command = [program("node"), "--input-type=module", "--eval", script]
    kinds = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert len(kinds) > 10
    for kind in kinds:
        methods = [each["value"] for each in kind["settings"] if each["name"].lower().endswith("method")]
        missing = [word for word in (kind["title"], *(f"`{method}`" for method in methods)) if word not in manual]
        assert not missing, kind["type"]
