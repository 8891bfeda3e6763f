"""Persistent calls over HTTP, as a caller makes them and looks after them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon import Daemon, environment

RPCBROKER = str(Path(sys.executable).parent / "rpcbroker")
PERSISTENT = {"method": "setGpio", "params": {"pin": 7}, "persistent": True, "timeout": 600_000}


def twoway(daemon: Daemon, device_id: str, **body: Any) -> tuple[int, Any]:
    return daemon.ask("POST", f"/api/rpc/twoway/{device_id}", {"method": "echo", "params": 5, "timeout": 20_000} | body)


def keep(daemon: Daemon, device_id: str, method: str, params: Any = None, *, oneway: bool = False, **body: Any) -> str:
    """The id of a new persistent call."""
    path = f"/api/rpc/{'oneway' if oneway else 'twoway'}/{device_id}"
    status, made = daemon.ask("POST", path, {"method": method, "params": params, "persistent": True} | body)
    assert status == 200, made
    rpc_id: str = made["rpcId"]
    return rpc_id


def persistent(daemon: Daemon, rpc_id: str) -> dict[str, Any]:
    """The call, as it is now."""
    status, found = daemon.ask("GET", f"/api/rpc/persistent/{rpc_id}")
    assert status == 200, found
    call: dict[str, Any] = found
    return call


def successful(daemon: Daemon, rpc_id: str) -> Callable[[], bool]:
    return lambda: persistent(daemon, rpc_id)["status"] == "SUCCESSFUL"


def checked(daemon: Daemon, **more: str) -> str:
    """What `rpcbroker check` says, which must be that nothing is broken; `more` is its environment."""
    done = subprocess.run(
        [RPCBROKER, "check", "--state-dir", str(daemon.state)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**more),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout
