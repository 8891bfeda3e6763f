"""What of the console needs no page: its state machines and tables, under node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from foreign import program

TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_it_does_as_its_tests_under_node_say(path: Path) -> None:
    ran = subprocess.run(
        [program("node"), "--test", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-1000:]
