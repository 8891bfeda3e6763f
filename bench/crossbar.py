"""Crossbar, started as its manual says, with nobody's identity checked and nothing logged."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from child import Child
from peers import free_port, python

REALM = "realm1"


def _configuration(http: int, rawsocket: int) -> dict[str, Any]:
    """A node with one worker, a router, whose anonymous sessions may do everything: else Crossbar's defaults."""
    everything = {"call": True, "register": True, "publish": True, "subscribe": True}
    role = {
        "name": "anonymous",
        "permissions": [{"uri": "", "match": "prefix", "allow": everything, "cache": True}],
    }

    def listens(port: int) -> dict[str, Any]:
        return {"type": "tcp", "interface": "127.0.0.1", "port": port, "backlog": 1024}

    paths = {
        "/": {"type": "static", "directory": "."},
        "call": {"type": "caller", "realm": REALM, "role": "anonymous"},
        "ws": {"type": "websocket", "serializers": ["json"]},
    }
    transports = [
        {"type": "rawsocket", "endpoint": listens(rawsocket), "serializers": ["json"]},
        {"type": "web", "endpoint": listens(http), "paths": paths},
    ]
    worker = {"type": "router", "realms": [{"name": REALM, "roles": [role]}], "transports": transports}
    return {"version": 2, "controller": {}, "workers": [worker]}


class Crossbar(Child):
    """A node that speaks WAMP over RawSocket, and on `http` over WebSocket at /ws, and has its HTTP bridge at /call.

    `pid` is its worker's: that is the process that routes. Raises SystemExit.
    """

    def __init__(self, directory: Path) -> None:
        self.http = "127.0.0.1", free_port()
        self.rawsocket = "127.0.0.1", free_port()
        node = directory / "crossbar"
        node.mkdir(exist_ok=True)
        (node / "config.json").write_text(json.dumps(_configuration(self.http[1], self.rawsocket[1])))
        program = str(Path(python("crossbar")).with_name("crossbar"))
        super().__init__("crossbar", [program, "start", "--cbdir", str(node), "--loglevel", "none"], directory)
        self.wait_for(self._takes_calls)
        self.wait_for(self._routes)

    @property
    def pid(self) -> int:
        controller = self.process.pid
        workers = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
        if len(workers) != 1:
            raise self.failure(f"has {len(workers)} workers and not one")
        return int(workers[0])

    def _routes(self) -> bool:
        socket.create_connection(self.rawsocket).close()
        return True

    def _takes_calls(self) -> bool:
        """The bridge is there once it knows that there is no such procedure."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http[1]}/call", b'{"procedure":"bench.none"}')
        request.add_header("Content-Type", "application/json")
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=5) as response:
            return b"no_such_procedure" in response.read()
        return False
