"""Other servers, started as their manuals say, with nobody's identity checked and nothing kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from child import Child

_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
max_connections -1
set_tcp_nodelay true
persistence false
log_type error
"""
BARE = "bare loop"
_COAP_SERVERS = "coap-server-notls", "coap-server-openssl", "coap-server-gnutls", "coap-server"


class Peer(Child):
    """An MQTT broker that listens on `mqtt`."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, port: int) -> None:
        self.mqtt = "127.0.0.1", port
        super().__init__(name, command, directory)
        self.wait_for(self._listens)

    def _listens(self) -> bool:
        socket.create_connection(self.mqtt).close()
        return True


class CoapPeer(Child):
    """A CoAP server on `port`."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, port: int) -> None:
        self.port = port
        super().__init__(name, command, directory)
        self.wait_for(self._answers)

    def _answers(self) -> bool:
        """A ping gets a Reset: RFC 7252 4.3."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect(("127.0.0.1", self.port))
            asking.settimeout(0.5)
            asking.send(b"\x40\x00\x00\x01")
            return asking.recv(64) == b"\x70\x00\x00\x01"


def mosquitto(directory: Path) -> Peer:
    """Debian's mosquitto. Raises SystemExit."""
    program, port = _program(("mosquitto",)), free_port()
    configuration = directory / "mosquitto.conf"
    configuration.write_text(_MOSQUITTO.format(port=port))
    return Peer("mosquitto", [program, "-c", str(configuration)], directory, port)


def amqtt(directory: Path) -> Peer:
    """amqtt, in the environment that `make bench` made for it. Raises SystemExit."""
    port = free_port()
    return Peer("amqtt", _script("amqtt", "amqtt_broker.py", port), directory, port)


def libcoap(directory: Path) -> CoapPeer:
    """The coap-server of Debian's libcoap. Raises SystemExit."""
    port = free_port()
    command = [_program(_COAP_SERVERS), "-A", "127.0.0.1", "-p", str(port), "-v", "3"]
    return CoapPeer("libcoap", command, directory, port)


def aiocoap(directory: Path) -> CoapPeer:
    """aiocoap's server, in the environment that `make bench` made for it. Raises SystemExit."""
    port = free_port()
    return CoapPeer("aiocoap", _script("aiocoap", "aiocoap_server.py", port), directory, port)


class BareLoop(Child):
    """The loop of bench/bare_loop.py, for devices with these ids."""

    def __init__(self, directory: Path, ids: Sequence[str]) -> None:
        self.http, self.mqtt = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
        told = directory / "ids"
        told.write_text("\n".join(ids))
        program, ports = str(Path(__file__).with_name("bare_loop.py")), (str(self.http[1]), str(self.mqtt[1]))
        super().__init__(BARE, [sys.executable, program, *ports, str(told)], directory)
        self.wait_for(self._listens)

    def _listens(self) -> bool:
        socket.create_connection(self.mqtt).close()
        return True


def version(name: str) -> str:
    """A peer's name and version. Raises SystemExit if it is not there."""
    if name == BARE:
        return name
    if name in ("amqtt", "aiocoap", "crossbar"):
        return _said([python(name), "-c", f"import importlib.metadata as m; print('{name}', m.version('{name}'))"])
    if name == "libcoap":
        # Its usage has "coap-server-notls v4.3.1 -- a small CoAP implementation".
        return "libcoap " + _said([_program(_COAP_SERVERS), "-?"]).partition(" v")[2].split()[0]
    return " ".join(_said([_program(("mosquitto",)), "-h"]).split()[:3])


def _said(command: Sequence[str]) -> str:
    """What a program says. Raises SystemExit if it says nothing."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.strip() or _missing(command[0], "it does not tell its version")


def _program(names: Sequence[str]) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    return found or _missing(names[0], "there is no such program")


def _script(name: str, script: str, port: int) -> list[str]:
    return [python(name), str(Path(__file__).with_name(script)), str(port)]


def python(name: str) -> str:
    variable = f"{name.upper()}_PYTHON"
    python = os.environ.get(variable, "")
    return python if Path(python).is_file() else _missing(name, f"{variable} names no Python that has it")


def _missing(name: str, why: str) -> str:
    raise SystemExit(f"{name}: {why}; `make bench` installs it, or leave it out with --peers")


def free_port() -> int:
    """A port that is free for TCP and for UDP alike: aiocoap's server takes both."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port
