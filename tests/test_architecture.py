"""The floors of the house: imports point down only, and time and chance are arguments."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "rpcbroker"
WINGS = {"transports", "api", "feed", "web", "outside", "store", "cluster", "host"}
FLOOR = {
    "wire": 0,
    "core": 1,
    "rules": 2,
    "schema": 2,
    **dict.fromkeys(WINGS, 3),
    "service": 4,
    "config": 4,
    "simulator": 4,
}
ROOF = 5
FILES = sorted(ROOT.rglob("*.py"))
FORBIDDEN = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("uuid", "uuid4"), ("uuid", "uuid1")}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return FLOOR.get(name, ROOF)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("rpcbroker.")} - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    mine = room(path)
    for other in rooms_imported(path) - {mine}:
        assert floor(other) < floor(mine) or floor(mine) == ROOF, f"{path.name} imports {other}"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "wire"], ids=lambda path: path.name)
def test_wire_needs_the_standard_library_only(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in {"twisted", "msgspec", "zope", "time"}}


@pytest.mark.parametrize("path", [p for p in FILES if floor(room(p)) < 4], ids=lambda path: str(path.relative_to(ROOT)))
def test_time_and_chance_are_arguments(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            assert (name, node.func.attr) not in FORBIDDEN
            assert name != "random"
    assert not imports(path) & {"uuid.uuid4", "uuid.uuid1", "time.time", "random.random"}


def test_only_tap_imports_the_global_reactor() -> None:
    users = {path.name for path in FILES if "twisted.internet.reactor" in imports(path) and room(path) != "cli"}
    assert users == {"tap.py"}


def test_nothing_of_ours_is_imported_for_types_only() -> None:
    assert not [path for path in FILES if "TYPE_CHECKING" in path.read_text()]


def test_no_file_is_longer_than_it_may_be() -> None:
    assert not {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 600}
