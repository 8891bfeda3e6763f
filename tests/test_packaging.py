"""What is built has everything that runs: the plugin, the migrations, the type marker."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = {
    "twisted/plugins/rpcbroker_plugin.py",
    "rpcbroker/py.typed",
    "rpcbroker/tap.py",
    "rpcbroker/store/migrations/env.py",
    "rpcbroker/store/migrations/versions/0001_first.py",
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "rpcbroker/console").rglob("*") if path.is_file()),
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist, built from a copy of the checkout."""
    source = tmp_path_factory.mktemp("source") / "rpcbroker"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".*", "build", "dist", "var", "*.egg-info", "__pycache__", "node_modules"),
    )
    built = subprocess.run([sys.executable, "-m", "build", str(source)], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return source / "dist"


def test_the_wheel_is_whole_and_adds_nothing_to_twisted_s_own_package(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= NEEDED
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/rpcbroker_plugin.py"}
    assert not {name for name in names if name.startswith(("tests/", "bench/"))}


def test_ready_made_rule_chains_come_with_both(dist: Path) -> None:
    chains = {path.name for path in (ROOT / "conf/chains").glob("*.json")}
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    in_wheel = {Path(name) for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".json")}
    assert {
        path.name for path in in_wheel if path.parts[1:] == ("data", "share", "rpcbroker", "chains", path.name)
    } == chains
    with tarfile.open(sdist) as archive:
        assert {f"conf/chains/{name}" for name in chains} <= {name.split("/", 1)[-1] for name in archive.getnames()}


def test_the_sdist_can_be_built_from(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert names >= NEEDED | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"}


def test_a_wheel_that_was_installed_is_known_to_twistd(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "twisted", "rpcbroker", "--help"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "--state-dir" in done.stdout
