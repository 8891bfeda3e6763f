"""What the daemon has in memory before anybody asks for anything."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import certificates
import pytest
from daemon import Daemon, wait_for

LATER = {
    "OpenSSL": "no listener has a certificate",
    "cryptography": "no listener has a certificate",
    "service_identity": "it takes cryptography along",
    "alembic": "the store is new, or its schema the one of this program",
    "mako": "alembic writes new migrations with it",
    "autobahn.twisted": "no WebSocket was opened",
    "autobahn.wamp": "no application has spoken WAMP",
    "cbor2": "no body was CBOR, and no session of WAMP speaks it",
    "argon2": "nobody has logged in",
    "rpcbroker.api.openapi": "nobody has read the document of the API",
    "prometheus_client": "nobody has read /metrics",
    "twisted.web.client": "no rule has called a server",
    "treq": "the command line uses it",
    "click": "it is the command line's",
    "rich": "it is the command line's",
    "quickjs": "scripts run in a process of their own",
    "re2": "no rule has searched with an expression",
    "jsonpath": "no rule has searched in JSON",
    "psycopg": "the store is SQLite",
    "sqlalchemy.dialects.postgresql": "the store is SQLite",
    "sqlalchemy.orm": "the store uses statements only",
    "rpcbroker.cli": "it is another program",
    "rpcbroker.simulator": "it is another program",
    "rpcbroker.outside.web_exchange": "no rule has called a server",
    "rpcbroker.transports.coap.dtls": "nothing listens for DTLS",
    "pytest": "it is for tests",
}
"""What is not there, and why."""
AS_TWISTD = """
import signal, sys
from pathlib import Path
from twisted.scripts.twistd import run
signal.signal(signal.SIGUSR2, lambda *_: Path("modules").write_text("\\n".join([*sys.modules, "that is all"])))
sys.argv[0] = "twistd"
run()
"""


COMMAND = [sys.executable, "-c", AS_TWISTD, "-n", "--pidfile="]


def modules(daemon: Daemon) -> set[str]:
    """Of the daemon, which was started by COMMAND."""
    file = daemon.directory / "modules"
    file.unlink(missing_ok=True)
    daemon.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: file.exists() and file.read_text().endswith("that is all"), "the list of modules")
    return set(file.read_text().split("\n"))


@pytest.mark.parametrize("starts_before", [0, 1])
def test_what_few_need_is_loaded_with_its_first_use(tmp_path: Path, starts_before: int) -> None:
    for _ in range(starts_before):
        Daemon(tmp_path).stop()
    daemon = Daemon(tmp_path, command=COMMAND)
    try:
        at_rest = modules(daemon)
        assert {"rpcbroker.service", "klein", "sqlalchemy", "twisted.internet.epollreactor"} <= at_rest
        if not starts_before:
            at_rest.discard("argon2")  # the first start makes the first user's password
        assert {name: why for name, why in LATER.items() if name in at_rest} == {}
        device_id = daemon.login().add_device("with a certificate", "token")
        status, credentials = daemon.ask("GET", f"/api/device/{device_id}/credentials")
        assert status == 200
        assert "OpenSSL" not in modules(daemon), "tokens need none"
        pem = certificates.make(tmp_path, serial=1).certificate.read_text()
        credentials |= {"credentialsType": "X509_CERTIFICATE", "credentialsId": None, "credentialsValue": pem}
        status, answer = daemon.ask("POST", "/api/device/credentials", credentials)
        assert status == 200, answer
        assert "cryptography" in modules(daemon)
    finally:
        daemon.stop()
    assert "Traceback" not in daemon.log.read_text()


def test_with_a_certificate_openssl_is_there_from_the_start(tmp_path: Path) -> None:
    listen = f"tcp:0:interface=127.0.0.1 {certificates.make(tmp_path, serial=1).listener()}"
    daemon = Daemon(tmp_path, command=COMMAND, RPCBROKER_HTTP_LISTEN=listen)
    try:
        assert {"OpenSSL.SSL", "twisted.internet._newtls"} <= modules(daemon), "Twisted found it as well"
    finally:
        daemon.stop()


def test_as_the_unit_starts_it_what_a_login_takes_is_given_back(tmp_path: Path) -> None:
    unit = (Path(__file__).parents[2] / "conf" / "rpcbroker.service").read_text()
    environment = dict(re.findall(r"^Environment=(\w+)=(\S+)$", unit, re.MULTILINE))
    assert "MALLOC_MMAP_THRESHOLD_" in environment
    Daemon(tmp_path).stop()  # which makes the first user's password
    daemon = Daemon(tmp_path, **environment)
    try:
        at_rest = resident(daemon)
        for _ in range(3):
            daemon.login()
        assert resident(daemon) - at_rest < 10, "each takes 19 MiB for a moment"
    finally:
        daemon.stop()


def resident(daemon: Daemon) -> float:
    """MiB of memory that are its own."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s*(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
