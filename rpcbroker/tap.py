"""`twistd rpcbroker`: options in, service out. The only file that touches the global reactor."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService, Service
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LegacyLogObserverWrapper, Logger
from twisted.python import usage

from rpcbroker import config
from rpcbroker.host import logs
from rpcbroker.host.late_tls import hidden_openssl

SUM_UP_INTERVAL = 5.0
"""Seconds between two looks for repeated events whose minute is over."""
LOOKS_FOR_CYCLES = 20_000, 20, 20
"""For `gc.set_threshold`. With Python's defaults the records of calls, which are no garbage, are looked through so
often that a fifth of the CPU goes there, and calls wait for 100 ms at times."""


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

    synopsis = "[--config FILE] [--state-dir DIR] [--log-json]"
    longdesc = (
        "Runs the RPC broker. Without a file it runs on defaults; see `rpcbroker config show`. "
        "SIGHUP reads the file again and takes new certificates."
    )
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "TOML file; every key can be overridden by RPCBROKER_<SECTION>_<KEY>"],
        ["state-dir", "s", None, "where the store and the keys are [default: $STATE_DIRECTORY, else ./var]"],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["log-json", None, "log JSON, one object a line, to stderr or to twistd's --logfile"],
    ]

    def postOptions(self) -> None:
        """Read the configuration and make paths absolute, before twistd changes the directory."""
        self["directory"] = Path.cwd()
        self["config"] = self["config"] and os.path.abspath(self["config"])
        try:
            self["configuration"] = config.load(self["config"], os.environ)
        except config.ConfigError as error:
            _say(f"rpcbroker: {error}")
            raise SystemExit(1) from None
        state_dir = self["state-dir"] or os.environ.get("STATE_DIRECTORY") or "var"
        self["state-dir"] = Path(os.path.abspath(state_dir))
        if self["log-json"] and (self.parent or {}).get("syslog"):
            raise usage.UsageError("--log-json is for stderr and --logfile, not for --syslog")
        with hidden_openssl(self["configuration"].settings):  # before twistd itself imports it
            import twisted.internet.reactor  # noqa: F401


class Daemon(Service):
    """Makes the broker when it is started, reloads it, and turns what prevents its start into one line."""

    _log = Logger()

    def __init__(self, options: Options) -> None:
        self._options = options
        self._inner: Any = None
        self._logs: logs.Logs | None = None
        self._log_file: logs.File | None = None
        self._on_stderr = ""
        self._summing_up: LoopingCall | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Also make the log that twistd begins with, unless it was told to use another."""
        super().setServiceParent(parent)
        twistd = self._options.parent or {}
        if "nodaemon" in twistd and not twistd["logger"]:
            self._logs = logs.Logs(self._options["configuration"].settings.log, self._write_log(twistd))
            parent.setComponent(ILogObserver, self._logs)

    def _write_log(self, twistd: Any) -> logs.Write:
        """To where twistd's options say, but to stderr in the place of stdout."""
        path, as_json = twistd["logfile"], self._options["log-json"]
        if twistd["syslog"]:
            from twisted.python.syslog import SyslogObserver

            write: logs.Write = LegacyLogObserverWrapper(SyslogObserver(twistd["prefix"]).emit)
            return write
        if path == "-" and not twistd["nodaemon"]:
            _say("rpcbroker: a daemon cannot log to stdout: give another --logfile")
            raise SystemExit(1)
        file: Any = sys.stdout
        if twistd["nodaemon"] and not path:
            file, self._on_stderr = sys.stderr, "json" if as_json else "text"
        elif path != "-":
            file = self._log_file = _open_log(path or "twistd.log")
            signal.signal(signal.SIGUSR1, lambda *_: _in_reactor(file.rotate))
        return logs.json_lines(file) if as_json else logs.text(file)

    def privilegedStartService(self) -> None:
        self._guarded(lambda broker: broker.privilegedStartService())

    def startService(self) -> None:
        for warning in self._options["configuration"].warnings:
            self._log.warn("{warning}", warning=warning)
        from twisted.internet import reactor

        from rpcbroker.host import lean_reactor

        self._guarded(lambda broker: broker.startService())
        lean_reactor.lighten(reactor, self._inner.outgoing)
        gc.set_threshold(*LOOKS_FOR_CYCLES)
        super().startService()
        if self._logs is not None:
            self._summing_up = LoopingCall(self._sum_up)
            self._summing_up.start(SUM_UP_INTERVAL)

    def stopService(self) -> Any:
        super().stopService()
        if self._summing_up is not None:
            self._summing_up.stop()
        stopped = maybeDeferred(self._inner.stopService)
        stopped.addErrback(lambda failure: self._log.failure("the end was not an orderly one", failure=failure))
        return stopped.addBoth(self._sum_up_all)

    def reload(self) -> None:
        """What SIGHUP asks for: open the log file again, read the configuration, look at the certificates."""
        if not self.running:
            return
        try:
            if self._log_file is not None:
                self._log_file.reopen()
        except OSError as error:
            self._log.error("the log goes on in the old file: {error}", error=error)
        settings = None
        try:
            settings = config.load(self._options["config"], os.environ).settings
        except config.ConfigError as error:
            self._log.error("the configuration stays as it is: {error}", error=error)
        if settings is not None and self._logs is not None:
            self._logs.settings = settings.log
        self._inner.reload(settings)

    def _sum_up(self) -> None:
        if self._logs is not None:
            self._logs.sum_up(time.time())

    def _sum_up_all(self, result: Any) -> Any:
        if self._logs is not None:
            self._logs.sum_up(time.time(), of_all=True)
        return result

    def _broker(self) -> Any:
        if self._inner is None:
            settings = self._options["configuration"].settings
            with hidden_openssl(settings):
                from twisted.internet import reactor

                from rpcbroker.service import BrokerService
            self._inner = BrokerService(
                settings,
                state_dir=self._options["state-dir"],
                directory=self._options["directory"],
                environ=os.environ,
                reactor=reactor,
            )
        return self._inner

    def _guarded(self, start: Callable[[Any], None]) -> None:
        gc.disable()  # nearly all that is made here stays: looking for garbage takes a tenth of the start
        broker = self._broker()
        from rpcbroker.service import StartError

        try:
            start(broker)
        except StartError as error:
            if self._on_stderr != "text":
                self._log.error("{error}", error=error)
            if self._on_stderr != "json":
                _say(f"rpcbroker: {error}")
            raise Stop(str(error)) from None
        finally:
            gc.freeze()
            gc.enable()


def _say(line: str) -> None:
    """To the real stderr: twistd has put its log in the place of sys.stderr."""
    print(line, file=sys.__stderr__, flush=True)


def _open_log(path: str) -> logs.File:
    try:
        return logs.File(os.path.abspath(path))
    except OSError as error:
        _say(f"rpcbroker: --logfile {path}: {error.strerror}")
        raise SystemExit(1) from None


def _in_reactor(action: Callable[[], object]) -> None:
    """For handlers of signals, which may interrupt anything."""
    from twisted.internet import reactor

    reactor.callFromThread(action)


def makeService(options: Options) -> IService:
    """What the twistd plugin asks for. Opens nothing but the log."""
    daemon = Daemon(options)
    signal.signal(signal.SIGHUP, lambda *_: _in_reactor(daemon.reload))
    service: IService = daemon
    return service
