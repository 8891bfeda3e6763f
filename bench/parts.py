"""What the broker's memory at rest is made of, and what comes later: each part's resident set and time to import.

    python bench/parts.py

All of a start's imports in a process of its own, in the order of the start; a part has what no part before it has. What
comes later is imported after these, each in another process, and only once in the life of a broker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from child import machine
from start import byte_code_in

START = (
    ("Python", ""),
    ("twistd: Twisted, and what it imports of the standard library", "import twisted.scripts.twistd"),
    ("the plugin: options, settings, logs", "import rpcbroker.tap"),
    ("the reactor", "from twisted.internet import reactor"),
    ("twisted.web", "import twisted.web.server"),
    ("Klein and werkzeug", "import klein"),
    ("SQLAlchemy and SQLite", "import sqlalchemy, sqlalchemy.dialects.sqlite, sqlite3"),
    ("msgspec and PyJWT", "import msgspec, jwt"),
    ("the broker itself", "import rpcbroker.service"),
)
"""What is loaded before the first accept, by what loads it."""
LATER = (
    (
        "a certificate: a listener with TLS, a device's X.509 credentials",
        "import rpcbroker.host.key_files, rpcbroker.host.direct_tls",
    ),
    ("a listener with DTLS", "import rpcbroker.transports.coap.dtls"),
    ("the first login", "import argon2"),
    ("the first body in CBOR", "import cbor2"),
    ("the first look at /metrics", "import rpcbroker.api.collectors, prometheus_client.exposition"),
    ("the first WebSocket", "import rpcbroker.web.websocket_messages, rpcbroker.web.websocket_stream"),
    ("the first application that speaks WAMP", "import rpcbroker.feed.reading"),
    ("the first call of a rule to a server", "import rpcbroker.outside.web_exchange"),
    ("a store of another version, or a new one in PostgreSQL", "import alembic.command, alembic.config, alembic.op"),
    ("a store in PostgreSQL", "import sqlalchemy.dialects.postgresql, psycopg"),
)
"""What some brokers load, by what makes them."""
PROGRAM = """
import contextlib, gc, sys, time
gc.disable()

def measured(statement):
    begin = time.perf_counter()
    exec(statement)
    took = time.perf_counter() - begin
    with open("/proc/self/status") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return 1000 * took, resident / 1024

start, hidden = int(sys.argv[1]), False
with contextlib.ExitStack() as hiding:
    for number, statement in enumerate(sys.argv[2:]):
        if number == start:
            hiding.close()
        print(*measured(statement))
        if "rpcbroker.tap" in sys.modules and not hidden:
            from rpcbroker.core.settings import Settings
            from rpcbroker.host.late_tls import hidden_openssl
            hiding.enter_context(hidden_openssl(Settings()))
            hidden = True
"""
"""Takes how many statements are of the start, and all of them; hides OpenSSL as the plugin does."""


def imported(byte_code: Path, start: Sequence[str], later: Sequence[str] = ()) -> list[tuple[float, float]]:
    """Of each statement the milliseconds that it took, and the resident set after it in MB."""
    command = [sys.executable, "-c", PROGRAM, str(len(start)), *start, *later]
    env = os.environ | byte_code_in(byte_code)
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return [(float(took), float(resident)) for took, resident in map(str.split, ran.stdout.splitlines())]


def main() -> None:
    print(machine())
    start = [statement for _, statement in START]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        byte_code = Path(name)
        imported(byte_code, start, [statement for _, statement in LATER])  # writes it
        before = 0.0
        for (title, _), (took, resident) in zip(START, imported(byte_code, start), strict=True):
            print(f"{resident - before:5.1f} MB {took:4.0f} ms  {title}")
            before = resident
        print(f"{before:5.1f} MB          all of it; and later, by")
        for title, statement in LATER:
            (*_, (_, rest), (took, resident)) = imported(byte_code, start, [statement])
            print(f"{resident - rest:5.1f} MB {took:4.0f} ms  {title}", flush=True)


if __name__ == "__main__":
    main()
