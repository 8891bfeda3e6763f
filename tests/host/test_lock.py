"""A state directory has one holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rpcbroker.host.lock import InUseError, holder_of, lock


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(InUseError, match=f"the process {os.getpid()} uses it"):
        lock(tmp_path)


def test_it_is_free_again_when_the_holder_is_gone(tmp_path: Path) -> None:
    program = (
        "import os,sys,pathlib; from rpcbroker.host.lock import lock; f = lock(pathlib.Path(sys.argv[1])); os.abort()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True)
    with lock(tmp_path) as held:
        assert held.fileno() > 0
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_who_holds_it_can_be_asked_without_taking_it(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    with lock(tmp_path):
        assert holder_of(tmp_path) == str(os.getpid())
    assert holder_of(tmp_path) is None
    with lock(tmp_path):
        pass
