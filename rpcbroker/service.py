"""Puts the broker together, starts it, and takes it down in good order.

Over 400 lines: what is made here, in which order, is read at one place.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import IO, Any
from uuid import uuid4

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from rpcbroker import __version__
from rpcbroker.api.devices import new_access_token
from rpcbroker.api.health import Check, Health, listening
from rpcbroker.api.metrics import Metrics
from rpcbroker.api.passwords import hash_password
from rpcbroker.api.rest import RestApi
from rpcbroker.core.broker import Broker
from rpcbroker.core.bulks import Bulks
from rpcbroker.core.direct import Outgoing
from rpcbroker.core.feed import Feed
from rpcbroker.core.feed_sources import FeedSources
from rpcbroker.core.lag import LoopLag
from rpcbroker.core.model import NULL_UUID, Authority, Tenant, User
from rpcbroker.core.ports import StoreError
from rpcbroker.core.presence_keeper import PresenceKeeper
from rpcbroker.core.settings import Settings, reloaded
from rpcbroker.feed.codec import BY_SUBPROTOCOL
from rpcbroker.feed.connection import WampConnection
from rpcbroker.feed.rawsocket import RawSocketFactory
from rpcbroker.feed.values_socket import MAX_TEXT, VALUES_PATHS, ValuesSockets
from rpcbroker.feed.wamp import Wamp
from rpcbroker.host.listeners import ListenError, Listeners
from rpcbroker.host.lock import InUseError, lock
from rpcbroker.host.notify import Notify
from rpcbroker.host.random_ids import random_uuids
from rpcbroker.host.tls import Certificates
from rpcbroker.host.wanted import Wanted, wanted
from rpcbroker.outside.scripts import ScriptPool
from rpcbroker.outside.web_calls import HttpCalls
from rpcbroker.rules.system import RuleSystem
from rpcbroker.schema.calls import rpc_text
from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.location import store_url
from rpcbroker.store.sql import SqlStore
from rpcbroker.transports.coap.ports import CoapPorts
from rpcbroker.transports.http.site import PREFIX, HttpDevices
from rpcbroker.transports.mqtt.admission import Admission
from rpcbroker.transports.mqtt.factory import MqttFactory
from rpcbroker.web.console import Console
from rpcbroker.web.front_door import FrontDoor, Mount
from rpcbroker.web.websocket import Socket

ADMIN_EMAIL = "RPCBROKER_ADMIN_EMAIL"
ADMIN_PASSWORD = "RPCBROKER_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable
DEFAULT_ADMIN = "admin@localhost"
WITH_CHAINS = {b"/api/ruleChain/metadata", b"/api/ruleChain/testScript", b"/api/ruleChains/import"}
"""Whose bodies are rule chains, or scripts: they may be as large as a chain."""
KEY_BYTES = 64
SECRET_BYTES = 32
"""Of what addresses prove by that they are not forged; a new one at each start."""
READY_INTERVAL = 0.05
"""Seconds until it is asked again whether all is ready."""
MQTT_SUBPROTOCOLS = ("mqtt", "mqttv3.1")
"""What MQTT is called over WebSocket: MQTT-6.0.0-3, and by clients from before there was a rule."""
GOODBYE = 1.0
"""Seconds that connections have at the end to take what was answered."""


class StartError(Exception):
    """The broker cannot start; the text is one line for the operator."""


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


class BrokerService(Service):
    """The whole broker as one Twisted service. Nothing is opened before it is started."""

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        state_dir: Path,
        directory: Path,
        environ: Mapping[str, str],
        reactor: Any,
        announce: Callable[[str], None] = lambda text: print(text, file=sys.__stdout__, flush=True),
    ) -> None:
        """`state_dir` must be absolute, and `directory`, at which relative paths of certificates start.

        `environ` is asked for the first administrator, and where systemd wants to be notified.
        """
        self._settings = settings
        self._state_dir = state_dir
        self._environ = environ
        self._reactor = reactor
        self._announce = announce
        self._lock: IO[str] | None = None
        self._notify = Notify(environ, pid=os.getpid(), clock=reactor)
        self.certificates = Certificates(reactor, time.time)
        self.outgoing = Outgoing(reactor.seconds)
        self._listeners = Listeners(
            reactor, directory=directory, certificates=self.certificates, outgoing=self.outgoing
        )
        self._key = b""
        self._default_tenant = NULL_UUID
        self._hashing = ThreadPool(minthreads=0, maxthreads=1, name="passwords")
        database = ThreadedDatabase(
            store_url(settings.store.url, state_dir),
            call_from_thread=reactor.callFromThread,
            max_queue=settings.store.max_queue,
            mark=state_dir / "store-state.json",
        )
        new_uuid = random_uuids().__next__
        self.store = SqlStore(database, cache_size=settings.store.cache_size, clock=reactor)
        self.broker = Broker(
            store=self.store,
            clock=reactor,
            now_ms=wall_clock_ms,
            new_uuid=new_uuid,
            new_token=new_access_token,
            settings=settings.rpc,
            limits=settings.limits,
            telemetry=settings.telemetry,
            attributes=settings.attributes,
        )
        self.bulks = Bulks(
            caller=self.broker, store=self.store, now_ms=wall_clock_ms, seconds=reactor.seconds, settings=settings.bulk
        )
        self.feed = Feed(self.broker, now_ms=wall_clock_ms, seconds=reactor.seconds, settings=settings.feed)
        FeedSources(self.broker, self.feed, now_ms=wall_clock_ms)
        self.scripts = ScriptPool(reactor, reactor, self.broker.deadlines, lambda: self._settings.rules)
        self.web = HttpCalls(reactor=reactor, deadlines=self.broker.deadlines, settings=lambda: self._settings.rules)
        self.rules = RuleSystem(
            broker=self.broker,
            store=self.store,
            scripts=self.scripts,
            web=self.web,
            settings=settings.rules,
            render=rpc_text,
            now_ms=wall_clock_ms,
            new_uuid=new_uuid,
        )
        self._keeper = PresenceKeeper(
            self.store, self.broker.deadlines, self.broker.events, settings=settings.feed, now_ms=wall_clock_ms
        )
        self.mqtt = Admission(
            broker=self.broker,
            settings=settings.mqtt,
            clock=reactor,
            outgoing=self.outgoing,
            new_client_id=lambda: f"rpcbroker-{secrets.token_hex(8)}",
            default_tenant=lambda: self._default_tenant,
            enrolment=lambda: self.rest,
        )
        self._mqtt_factory = MqttFactory(self.mqtt)
        self._lag = LoopLag(reactor, time.monotonic)
        metrics = Metrics(
            broker=self.broker,
            store=self.store,
            rules=self.rules,
            scripts=self.scripts,
            web=self.web,
            mqtt=self.mqtt,
            coap=lambda: self.coap,
            http_connections=lambda: self._door.open_connections,
            http_polls=lambda: self.http_devices.open_polls,
            wamp=lambda: self.wamp.router,
            feed_watchers=lambda: self.feed.watchers,
            lag=self._lag,
            timers=lambda: len(reactor.getDelayedCalls()),
            started=time.time(),
            access=lambda: self._settings.http.metrics,
            certificates=self.certificates.expiries,
        )
        self.rest = RestApi(
            settings=settings,
            store=self.store,
            broker=self.broker,
            bulks=self.bulks,
            rules=self.rules,
            feed=self.feed,
            health=Health(self._checks(), reactor, self._urls),
            metrics=metrics,
            key=lambda: self._key,
            run_hash=lambda f, *args: deferToThreadPool(reactor, self._hashing, f, *args),
            now_ms=wall_clock_ms,
            seconds=reactor.seconds,
            new_uuid=new_uuid,
            new_token=new_access_token,
        )
        self.wamp = Wamp(
            settings=settings,
            broker=self.broker,
            store=self.store,
            feed=self.feed,
            trail=self.rest.trail,
            rights=self.rest.who,
            now_ms=wall_clock_ms,
            seconds=reactor.seconds,
            new_uuid=new_uuid,
            new_id=lambda: 1 + secrets.randbelow(1 << 53),
        )
        self.http_devices = HttpDevices(
            broker=self.broker,
            enrolment=self.rest,
            settings=settings.http_devices,
            render=self.rest.site.render,
            now_ms=wall_clock_ms,
            seconds=reactor.seconds,
            write_timeout=lambda: self._settings.http.write_timeout,
        )
        self.coap = CoapPorts(
            broker=self.broker,
            enrolment=self.rest,
            settings=settings.coap,
            now_ms=wall_clock_ms,
            rng=SystemRandom(),
            secret=secrets.token_bytes(SECRET_BYTES),
            reactor=reactor,
        )
        self._door = FrontDoor(
            Console(self.rest.site.resource(), shown=lambda: self._settings.http.console),
            settings=settings.http,
            deadlines=self.broker.deadlines,
            render=self.rest.site.render,
            reactor=reactor,
            outgoing=self.outgoing,
            sockets=self._sockets(),
            mount=Mount(PREFIX, self.http_devices.serve, self.http_devices.largest),
            larger=lambda path: self._settings.rules.max_chain_size if path in WITH_CHAINS else 0,
            hot=self.rest.site.hot,
        )

    def _sockets(self) -> dict[str, Socket]:
        """What is spoken over WebSocket, by its path."""
        values = Socket((), cache(self._values_over_websocket))
        chosen = {
            self._settings.mqtt.websocket_path: Socket(MQTT_SUBPROTOCOLS, cache(self._mqtt_over_websocket)),
            self._settings.wamp.websocket_path: Socket(tuple(BY_SUBPROTOCOL), cache(self._wamp_over_websocket)),
        }
        return dict.fromkeys(VALUES_PATHS, values) | {path: socket for path, socket in chosen.items() if path}

    def _mqtt_over_websocket(self) -> IProtocolFactory:
        from rpcbroker.web.websocket_stream import ROOM, ByteStreamFactory

        return ByteStreamFactory(
            self._mqtt_factory,
            max_frame=lambda: self.mqtt.settings.max_packet_size + ROOM,
            outgoing=self.outgoing,
            deadlines=self.broker.deadlines,
            reactor=self._reactor,
        )

    def _wamp_over_websocket(self) -> IProtocolFactory:
        return self._message_sockets(
            lambda connection: WampConnection(self.wamp.router, BY_SUBPROTOCOL[connection.subprotocol]),
            max_size=lambda: self._settings.wamp.max_message_size,
        )

    def _values_over_websocket(self) -> IProtocolFactory:
        values = ValuesSockets(
            broker=self.broker, feed=self.feed, rights=self.rest.who, settings=lambda: self._settings.wamp
        )
        return self._message_sockets(
            lambda connection: values.socket(connection.query.get("token", [""])[0]), max_size=lambda: MAX_TEXT
        )

    def _message_sockets(self, listener: Callable[[Any], Any], max_size: Callable[[], int]) -> IProtocolFactory:
        from rpcbroker.web.websocket_messages import MessageSocketFactory

        return MessageSocketFactory(listener, max_size=max_size, **self._outlets())

    def _outlets(self) -> dict[str, Any]:
        """How what goes out to peers of the feed is gathered, and how much of it may wait."""
        return {
            "max_waiting": lambda: self._settings.feed.max_waiting,
            "gather": lambda: self._settings.feed.gather,
            "deadlines": self.broker.deadlines,
            "reactor": self._reactor,
        }

    def _checks(self) -> dict[str, Check]:
        """What has to be ready before calls are sent here, by the names that operators read."""
        checks: dict[str, Check] = {
            "store": self.store.ping,
            "store writer": self.store.ping_writer,
            "wire ids": lambda: None if self.broker.wire_ids.assure() else "none are reserved yet",
        }
        for listener in wanted(self._settings):
            checks[listener.section] = listening(self._listeners.ports[listener.section])
        return checks

    # -- start

    def privilegedStartService(self) -> None:
        """Listen, while ports below 1024 and root's keys may still be had. Raises StartError."""
        if not any(self._listeners.ports.values()):
            try:
                for listener in wanted(self._settings):
                    self._open(listener)
            except ListenError as error:
                raise StartError(str(error)) from None
        super().privilegedStartService()

    def _open(self, listener: Wanted) -> None:
        """Raises ListenError."""
        match listener.section, listener.key:
            case "http", _:
                self._listeners.open(listener, self._door)
            case "mqtt", _:
                self._listeners.open(listener, self._mqtt_factory)
            case "wamp", _:
                self._listeners.open(listener, RawSocketFactory(self.wamp.router, **self._outlets()))
            case _, "dtls_listen":
                self._listeners.open_dtls(
                    listener,
                    lambda port, interface, certificate: self.coap.listen_dtls(
                        port, interface, lambda: certificate.identity
                    ),
                )
            case _:
                self._listeners.open_udp(listener, self.coap.listen)

    def startService(self) -> None:
        """Open the store, then take calls. Raises StartError."""
        self.privilegedStartService()
        self._take_state_dir()
        self._key = self._signing_key()
        try:
            opened = self.store.open(first_records=self._first_records)
        except StoreError as error:
            raise StartError(str(error)) from None
        self._default_tenant = opened.default_tenant
        self.rest.start(opened)
        self.broker.start(opened)
        self.rules.start(opened.rule_chains)
        self.bulks.start(opened.running_bulks)
        self._hashing.start()
        self.certificates.watch(self._settings.server.tls_check)
        self._lag.start()
        self._log.info("rpcbroker {version}, its state in {directory}", version=__version__, directory=self._state_dir)
        urls = self._urls()
        _write_file(self._state_dir / "endpoints.json", json.dumps(urls, indent=2) + "\n", 0o644)
        for name, url in urls.items():
            self._log.info("{name} at {url}", name=name, url=url)
        self._reactor.callWhenRunning(self._tell_when_ready)
        super().startService()

    def _urls(self) -> dict[str, str]:
        """Of the listeners, and for what is spoken on those of HTTP such as `mqtt-ws` and `mqtt-wss`."""
        paths = {"mqtt": self._settings.mqtt.websocket_path, "wamp": self._settings.wamp.websocket_path}
        urls = {name: self._listeners.urls.get(name, "") for name in ("http", "https")}
        return self._listeners.urls | {
            f"{spoken}-ws{name[4:]}": f"ws{url.removeprefix('http')}{path}"
            for name, url in urls.items()
            for spoken, path in paths.items()
            if path and url.startswith(f"{name}://")
        }

    def _tell_when_ready(self) -> None:
        """Ready is what /readyz says: the store has to have reserved the first ids of calls, for example."""
        if self.rest.health.stopping:
            return
        ready = Deferred.fromCoroutine(self.rest.health.ready())
        ready.addCallbacks(
            lambda _: self._notify.ready(self._status),
            lambda _: self._reactor.callLater(READY_INTERVAL, self._tell_when_ready),
        )

    def _status(self) -> str:
        """One line for `systemctl status`."""
        calls = _count(self.broker.pending_count, "call")
        if self.rest.health.stopping:
            return f"draining {calls}"
        return f"{_count(self.mqtt.connections, 'device')} connected, {calls} waiting"

    def _take_state_dir(self) -> None:
        try:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self._state_dir / ".writable"
            probe.touch()
            probe.unlink()
            self._lock = lock(self._state_dir)
        except OSError as error:
            raise StartError(f"state directory {self._state_dir}: {error.strerror}") from None
        except InUseError as error:
            raise StartError(str(error)) from None

    def _signing_key(self) -> bytes:
        path = self._state_dir / "jwt-signing-key"
        if not path.exists():
            _write_file(path, secrets.token_hex(KEY_BYTES) + "\n", 0o600)
        try:
            key = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError) as error:
            raise StartError(f"signing key {path}: {error}") from None
        if len(key) < KEY_BYTES:
            raise StartError(f"signing key {path}: it has {len(key)} bytes, {KEY_BYTES} are needed")
        return key

    def _first_records(self) -> tuple[Tenant, User]:
        """The default tenant and its administrator, for an empty store."""
        email = self._environ.get(ADMIN_EMAIL) or DEFAULT_ADMIN
        given = self._environ.get(ADMIN_PASSWORD)
        password = given or secrets.token_urlsafe(15)
        try:
            hashed = hash_password(password)
        except ValueError as error:
            raise StartError(f"{ADMIN_PASSWORD}: {error}") from None
        if not given:
            path = self._state_dir / "initial-admin-password"
            _write_file(path, password + "\n", 0o600)
            self._announce(f"First start: log in as {email} with the password {password} (kept in {path})")
        now = wall_clock_ms()
        tenant = Tenant(id=uuid4(), title="Default", created_time=now)
        user = User(
            id=uuid4(),
            tenant_id=tenant.id,
            email=email,
            authority=Authority.TENANT_ADMIN,
            password_hash=hashed,
            created_time=now,
        )
        return tenant, user

    # -- reload

    def reload(self, settings: Settings | None) -> None:
        """Go on with what may change of `settings`, and look at the certificates' files now.

        None: there are no settings that could be used, all stay as they are.
        """
        if not self.running or self.rest.health.stopping:
            return
        self._notify.reloading(time.monotonic_ns() // 1000)
        new, changed, missed = reloaded(self._settings, settings or self._settings)
        self._apply(new)
        if settings is not None:
            self._log.info("configuration read again; changed: {changed}", changed=", ".join(changed) or "nothing")
        if missed:
            self._log.warn("needs a restart: {missed}", missed=", ".join(missed))
        self._notify.reloaded()

    def _apply(self, settings: Settings) -> None:
        """Who works by which section. [server] drain is read when the service stops."""
        self._settings = settings
        self.certificates.watch(settings.server.tls_check)
        self._door.settings = settings.http
        self.http_devices.settings = settings.http_devices
        self.mqtt.settings = settings.mqtt
        self.coap.settings = settings.coap
        self.broker.reconfigure(settings.rpc)
        self.broker.quotas.reconfigure(settings.limits)
        self.broker.telemetry.settings = settings.telemetry
        self.broker.attributes.settings = settings.attributes
        self.bulks.settings = settings.bulk
        self.rules.settings = settings.rules
        self.feed.settings = self._keeper.settings = settings.feed
        self.wamp.reconfigure(settings)
        self.rest.reconfigure(settings)

    # -- stop

    def stopService(self) -> Deferred[None]:
        """Take no more calls, let running ones finish, then close everything."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.rest.health.stopping = self._door.stopping = True
        self._notify.stopping(self._status)
        await self._listeners.close()
        self.bulks.stop()
        await self.broker.drain(self._settings.server.drain)
        await self.bulks.finish()
        self.web.stop()
        self.rest.streams.stop()
        self.wamp.stop()
        self.mqtt.sessions.disconnect_all()
        self.coap.close()
        await self._listeners.close_datagrams()
        await self._door.close_all().addTimeout(GOODBYE, self._reactor, lambda *_: None)
        await self._keeper.flush()
        await self.broker.telemetry.finish()
        await self.rest.flush()
        await self.store.close()
        await self.scripts.stop()
        self._hashing.stop()
        self.certificates.stop()
        self._lag.stop()
        self.broker.deadlines.stop()
        (self._state_dir / "endpoints.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
        self._notify.stop()
        super().stopService()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _write_file(path: Path, text: str, mode: int) -> None:
    """All or nothing, and never readable by more than `mode` allows. Raises StartError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from None
