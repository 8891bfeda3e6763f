"""Other MQTT brokers, started as their manuals say, with nobody's identity checked and nothing kept."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from child import Child

_AMQTT_SCRIPT = Path(__file__).with_name("amqtt_broker.py")
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
max_connections -1
set_tcp_nodelay true
persistence false
log_type error
"""


class Peer(Child):
    """A peer that listens on `mqtt`."""

    def __init__(self, name: str, command: list[str], directory: Path, port: int) -> None:
        self.mqtt = "127.0.0.1", port
        super().__init__(name, command, directory)
        self.wait_for(self._listens)

    def _listens(self) -> bool:
        socket.create_connection(self.mqtt).close()
        return True


def mosquitto(directory: Path) -> Peer:
    """Debian's mosquitto. Raises SystemExit."""
    program, port = _mosquitto_program(), _free_port()
    configuration = directory / "mosquitto.conf"
    configuration.write_text(_MOSQUITTO.format(port=port))
    return Peer("mosquitto", [program, "-c", str(configuration)], directory, port)


def amqtt(directory: Path) -> Peer:
    """amqtt, in the environment that `make bench` made for it. Raises SystemExit."""
    port = _free_port()
    return Peer("amqtt", [_amqtt_python(), str(_AMQTT_SCRIPT), str(port)], directory, port)


def version(name: str) -> str:
    """A peer's name and version. Raises SystemExit if it is not there."""
    if name == "mosquitto":
        said = subprocess.run([_mosquitto_program(), "-h"], capture_output=True, text=True, check=False).stdout
        return " ".join(said.split()[:3])
    said = subprocess.run(
        [_amqtt_python(), "-c", "import importlib.metadata as m; print('amqtt', m.version('amqtt'))"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return said.strip() or _missing("amqtt", "it is not installed in AMQTT_PYTHON's environment")


def _mosquitto_program() -> str:
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
    return found or _missing("mosquitto", "there is no such program")


def _amqtt_python() -> str:
    python = os.environ.get("AMQTT_PYTHON", "")
    return python if Path(python).is_file() else _missing("amqtt", "AMQTT_PYTHON names no Python that has it")


def _missing(name: str, why: str) -> str:
    raise SystemExit(f"{name}: {why}; `make bench` installs it, or leave it out with --peers")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
