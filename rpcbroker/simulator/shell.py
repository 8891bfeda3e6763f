"""A shell that touches nothing: a few commands over a few files that are made up.

It speaks as remote shells of dashboards want it: one command at a time runs beside the calls, and what it writes is
fetched bit by bit.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rpcbroker import __version__

MAX_SECONDS = 3_600
"""That a command counts at most."""
MAX_COMMAND = 1_000
"""Characters of a command."""

_FILES = {
    "/etc/hostname": "simulated\n",
    "/etc/motd": "Nothing here is real: type help.\n",
    "/home/pi/notes.txt": "Pin 7 is the lamp.\n",
}
_DIRECTORIES = frozenset({"/", "/etc", "/home", "/home/pi"})
_HELP = """cat FILE      show a file
cd DIRECTORY  go there
count N       count to N, one a second
echo TEXT     say it
fail          write to the standard error
help          this
ls            what is here
pwd           where am I
"""


class _Output(NamedTuple):
    """What a command writes, `due` seconds after it began. `stream` is stdout or stderr."""

    due: float
    stream: str
    text: str


class FakeShell:
    """One session. `answer` takes what the remote shell of a dashboard sends; nothing raises."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.cwd = "/"
        self._seconds = seconds
        self._began = 0.0
        self._waiting: list[_Output] = []
        self._commands: dict[str, Callable[[str], Iterator[_Output]]] = {
            "cat": self._cat,
            "cd": self._cd,
            "count": _count,
            "echo": lambda words: iter((_Output(0, "stdout", words + "\n"),)),
            "fail": lambda _: _complain("it failed, as it was told to"),
            "help": lambda _: iter((_Output(0, "stdout", _HELP),)),
            "ls": self._ls,
            "pwd": lambda _: iter((_Output(0, "stdout", self.cwd + "\n"),)),
        }

    def info(self) -> dict[str, str]:
        """Which system this is, and where its session stands."""
        return {"platform": "rpcbroker simulator", "release": __version__, "cwd": self.cwd}

    def send(self, params: Any) -> dict[str, Any]:
        """Begin a command: `{"command": "ls", "cwd": "/"}`. `exit` begins none, and ends the session."""
        command, cwd = (params.get("command"), params.get("cwd")) if isinstance(params, dict) else (None, None)
        if not isinstance(command, str) or len(command) > MAX_COMMAND:
            return {"error": 'params must be like {"command": "ls", "cwd": "/"}'}
        if self._waiting:
            return {"error": "a command is running"}
        if isinstance(cwd, str) and cwd in _DIRECTORIES:
            self.cwd = cwd
        name, _, words = command.strip().partition(" ")
        if name == "exit":
            self.cwd = "/"
        elif name:
            run = self._commands.get(name)
            self._began = self._seconds()
            self._waiting = list(run(words.strip()) if run else _complain(f"{name}: there is no such command"))
        return {"ok": True}

    def status(self) -> dict[str, Any]:
        """What was written since the last time, and whether that is all."""
        passed = self._seconds() - self._began
        data = [{output.stream: output.text} for output in self._waiting if output.due <= passed]
        del self._waiting[: len(data)]
        return {"data": data, "done": not self._waiting, "cwd": self.cwd}

    def terminate(self) -> dict[str, Any]:
        """End the command that runs."""
        if not self._waiting:
            return {"ok": False, "error": "no command is running"}
        self._waiting = [_Output(0, "stderr", "terminated\n")]
        return {"ok": True}

    # -- commands

    def _path(self, words: str) -> str:
        return posixpath.normpath(posixpath.join(self.cwd, words))

    def _cat(self, words: str) -> Iterator[_Output]:
        text = _FILES.get(self._path(words))
        if text is None:
            yield from _complain(f"cat: {words}: there is no such file")
        else:
            yield _Output(0, "stdout", text)

    def _cd(self, words: str) -> Iterator[_Output]:
        path = self._path(words or "/")
        if path in _DIRECTORIES:
            self.cwd = path
        else:
            yield from _complain(f"cd: {words}: there is no such directory")

    def _ls(self, _words: str) -> Iterator[_Output]:
        here = [path for path in (*_DIRECTORIES, *_FILES) if path != "/" and posixpath.dirname(path) == self.cwd]
        yield _Output(0, "stdout", "".join(sorted(f"{posixpath.basename(path)}\n" for path in here)))


def _count(words: str) -> Iterator[_Output]:
    if not words.isdecimal() or len(words) > 5 or not 1 <= int(words) <= MAX_SECONDS:
        yield from _complain(f"count: give a number from 1 to {MAX_SECONDS}")
        return
    for number in range(1, int(words) + 1):
        yield _Output(number, "stdout", f"{number}\n")


def _complain(text: str) -> Iterator[_Output]:
    yield _Output(0, "stderr", text + "\n")
