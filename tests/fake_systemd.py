"""systemd's end of things: it listens for notifications, and hands sockets over."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

LAUNCHER = """
import fcntl, os, sys
first, names, command = 100, sys.argv[1], sys.argv[3:]
moved = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, first) for fd in sys.argv[2].split(",")]
for number, fd in enumerate(moved):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


class Notifications:
    """The socket that $NOTIFY_SOCKET names, and what came in."""

    def __init__(self, path: Path | str) -> None:
        """A path, or a name that begins with "@"."""
        self.address = str(path)
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._socket.setblocking(False)

    def new(self) -> list[str]:
        """The lines of all messages that came since the last time."""
        found: list[str] = []
        while True:
            try:
                found += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                self.lines += found
                return found

    def wait(self, line: str, seconds: float = 15.0) -> list[str]:
        """What came up to the message with `line`, which must start with it."""
        found: list[str] = []
        end = time.monotonic() + seconds
        while not any(one.startswith(line) for one in found):
            assert time.monotonic() < end, f"{line} did not come, but {found}"
            time.sleep(0.01)
            found += self.new()
        return found

    def close(self) -> None:
        self._socket.close()


def handing_over(sockets: dict[str, socket.socket], command: list[str]) -> list[str]:
    """The command that runs `command` with these listening sockets, as systemd would.

    Their descriptors have to be passed on to it.
    """
    numbers = ",".join(str(one.fileno()) for one in sockets.values())
    return [sys.executable, "-c", LAUNCHER, ":".join(sockets), numbers, *command]
