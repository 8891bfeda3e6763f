"""`twistd rpcbroker`: options in, service out. The only file that touches the global reactor."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService, Service
from twisted.logger import Logger
from twisted.python import usage

from rpcbroker import config


class Stop(SystemExit, Exception):
    """Ends twistd with one line and exit code 1.

    An Exception, so that twistd's daemon mode tells the waiting parent and removes its pid file;
    a SystemExit, so that the interpreter prints no traceback.
    """

    def __init__(self, line: str) -> None:
        super().__init__(1)
        self.line = line

    def __str__(self) -> str:
        return self.line


class Options(usage.Options):
    """The command line of the twistd plugin."""

    synopsis = "[--config FILE] [--state-dir DIR]"
    longdesc = "Runs the RPC broker. Without a file it runs on defaults; see `rpcbroker config show`."
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "TOML file; every key can be overridden by RPCBROKER_<SECTION>_<KEY>"],
        ["state-dir", "s", None, "where the store and the keys are [default: $STATE_DIRECTORY, else ./var]"],
    ]

    def postOptions(self) -> None:
        """Read the configuration and make paths absolute, before twistd changes the directory."""
        path = self["config"]
        try:
            self["configuration"] = config.load(path and os.path.abspath(path), os.environ)
        except config.ConfigError as error:
            _say(f"rpcbroker: {error}")
            raise SystemExit(1) from None
        state_dir = self["state-dir"] or os.environ.get("STATE_DIRECTORY") or "var"
        self["state-dir"] = Path(os.path.abspath(state_dir))


class Daemon(Service):
    """Makes the broker when it is started, and turns what prevents that into one line."""

    _log = Logger()

    def __init__(self, options: Options) -> None:
        self._options = options
        self._inner: Any = None

    def privilegedStartService(self) -> None:
        self._guarded(lambda: self._broker().privilegedStartService())

    def startService(self) -> None:
        for warning in self._options["configuration"].warnings:
            self._log.warn("{warning}", warning=warning)
        self._guarded(lambda: self._broker().startService())
        super().startService()

    def stopService(self) -> Any:
        super().stopService()
        return self._inner.stopService() if self._inner is not None else None

    def _broker(self) -> Any:
        if self._inner is None:
            from twisted.internet import reactor

            from rpcbroker.service import BrokerService

            self._inner = BrokerService(
                self._options["configuration"].settings,
                state_dir=self._options["state-dir"],
                environ=os.environ,
                reactor=reactor,
            )
        return self._inner

    def _guarded(self, start: Callable[[], None]) -> None:
        from rpcbroker.service import StartError

        try:
            start()
        except StartError as error:
            self._log.error("{error}", error=error)
            _say(f"rpcbroker: {error}")
            raise Stop(str(error)) from None


def _say(line: str) -> None:
    """To the real stderr: twistd has put its log in the place of sys.stderr."""
    print(line, file=sys.__stderr__, flush=True)


def makeService(options: Options) -> IService:
    """What the twistd plugin asks for. Opens nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # its default would kill the broker under twistd -n
    daemon: IService = Daemon(options)
    return daemon
