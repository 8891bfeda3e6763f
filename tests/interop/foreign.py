"""A foreign client in a process of its own: what it prints as JSON, a line each, is what it saw."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
NODE_MODULES = HERE / "js" / "node_modules"


def program(name: str, what: str | None = None) -> str:
    """The path of a program that has to be there."""
    # the daemons of Debian's packages are where only root looks
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") if name else None
    assert found, f"{what or name} is missing; `make test` installs it"
    return found


def python_of(environment: str) -> str:
    """The Python of an environment that the Makefile makes for one foreign thing, by the name of its variable."""
    return program(os.environ.get(environment, ""), f"the environment {environment}")


def node(script: str, package: str) -> list[str]:
    """A command that runs one of our scripts on a package of npm."""
    assert (NODE_MODULES / package).is_dir(), f"npm's {package} is missing; `make test` installs it"
    return [program("node"), str(HERE / "js" / script)]


class Foreign:
    """A process that is ended with the block; an assertion that fails in it shows the end of what it logged."""

    def __init__(self, command: list[str], directory: Path, **more: str) -> None:
        """`more` is added to its environment; it runs in `directory`, and logs there."""
        self.log = directory / "foreign.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | more,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._saw: queue.Queue[Any] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, self.log.open("a") as log:
            for line in lines:
                if line.startswith("{"):
                    self._saw.put(json.loads(line))
                else:
                    log.write(line)
                    log.flush()
        self._saw.put(None)

    def saw(self, seconds: float = 15.0) -> Any:
        """The next thing that it saw."""
        try:
            seen = self._saw.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"nothing was seen for {seconds} s") from None
        assert seen is not None, "it has ended"
        return seen

    def saw_such(self, member: str) -> Any:
        """The next thing with this member; what came before it is passed over."""
        while member not in (seen := self.saw()):
            pass
        return seen

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def saw_nothing_more(self) -> bool:
        return self._saw.empty()

    def __enter__(self) -> Foreign:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._reader.join(10)
        if error is not None:
            error.add_note(self.log.read_text()[-4000:])
