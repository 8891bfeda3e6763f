"""autobahn in Python and JavaScript, each with each, against the real router: all three encodings, both transports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import EMAIL, Daemon
from foreign import CLIENTS, Foreign, node

pytestmark = pytest.mark.interop

CASES = [
    # who serves and who uses: client, serializer, transport
    (("python", "json", "ws"), ("python", "json", "ws")),
    (("python", "msgpack", "ws"), ("js", "cbor", "ws")),
    (("python", "cbor", "ws"), ("python", "msgpack", "rs")),
    (("js", "json", "ws"), ("python", "cbor", "rs")),
    (("js", "msgpack", "ws"), ("python", "json", "rs")),
    (("js", "cbor", "ws"), ("js", "json", "rs")),
    (("python", "json", "rs"), ("js", "msgpack", "ws")),
    (("js", "json", "rs"), ("js", "json", "ws")),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    rawsocket = "tcp:0:interface=127.0.0.1"
    daemon = Daemon(tmp_path_factory.mktemp("wamp"), RPCBROKER_WAMP_RAWSOCKET_LISTEN=rawsocket).login()
    daemon.add_device("pump", "PUMP")
    yield daemon
    daemon.stop()


def run(broker: Daemon, directory: Path, client: tuple[str, str, str], role: str) -> Foreign:
    kind, serializer, transport = client
    url = broker.endpoints["wamp"].replace("wamp", "rs", 1) if transport == "rs" else broker.endpoints["wamp-ws"]
    command = [sys.executable, str(CLIENTS / "wamp_client.py")] if kind == "python" else node("wamp.js", "autobahn")
    (directory / role).mkdir()
    assert broker.token is not None
    return Foreign([*command, url, serializer, broker.token, role], directory / role)


@pytest.mark.parametrize(("server", "user"), CASES, ids="-".join)
def test_applications_understand_each_other(
    broker: Daemon, tmp_path: Path, server: tuple[str, str, str], user: tuple[str, str, str]
) -> None:
    joined = {"joined": ["rpcbroker", EMAIL, "TENANT_ADMIN"]}
    with run(broker, tmp_path, server, "serve") as serving:
        assert [serving.saw(), serving.saw()] == [joined, {"ready": True}]
        with run(broker, tmp_path, user, "use") as using:
            assert using.saw() == joined
            assert using.saw() == {"result": 5}
            assert using.saw() == {"result": [[0, 1, 2], "counted"]}
            assert using.saw() == {"error": ["com.example.error.no", ["not"], {"why": "so"}]}
            for _ in range(2):
                uri, (sentence,), _ = using.saw()["error"]
                assert (uri, bool(sentence)) == ("wamp.error.no_such_procedure", True)
            assert using.saw() == {"cancelled": True}
            assert using.saw() == {"error": ["wamp.error.not_authorized", [], {}]}
            assert using.saw() == {"devices": 1}
        if server[0] == "python":  # autobahn-js cannot be interrupted
            assert serving.saw() == {"interrupted": True}
        for _ in range(3):
            assert serving.saw() == {"event": [[1, "\u00e4"], {"a": [None, 1.5]}, "com.example.topic"]}
        assert serving.saw_nothing_more()
