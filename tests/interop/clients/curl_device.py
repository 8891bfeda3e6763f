"""A device on curl: its own questions first, then what it is called for. The program, the URL, `poll` or `events`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

PROGRAM, URL, WAY = sys.argv[1:]
JSON = ("-H", "Content-Type: application/json")


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def curl(*arguments: str, body: Any = None) -> tuple[int, str]:
    """Status and body of one request."""
    posted = () if body is None else (*JSON, "--data-binary", "@-")
    done = subprocess.run(
        [PROGRAM, "-sS", "-w", "\n%{http_code}", *posted, *arguments],
        input=None if body is None else json.dumps(body),
        check=True,
        capture_output=True,
        text=True,
    )
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def post(feature: str, body: Any) -> str:
    status, text = curl(f"{URL}/{feature}", body=body)
    assert status == 200, (status, text)
    return text


def polled() -> Iterator[Any]:
    """A call a poll."""
    while True:
        status, text = curl(f"{URL}/rpc?timeout=20000")
        assert status in (200, 408), (status, text)
        if status == 200:
            yield json.loads(text)


def streamed() -> Iterator[Any]:
    """A call an event."""
    command = [PROGRAM, "-sSN", "--fail", "-H", "Accept: text/event-stream", f"{URL}/rpc"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        try:
            assert stream.stdout is not None
            for line in stream.stdout:
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
        finally:
            stream.terminate()


signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # and so curl is ended, too
say(asked="getCurrentTime", answer=json.loads(post("rpc", {"method": "getCurrentTime", "params": {}})))
post("telemetry", {"temperature": 21.5})
post("telemetry", {"long": "x" * 5000})
for call in {"poll": polled, "events": streamed}[WAY]():
    say(called={"method": call["method"], "params": call["params"]})
    if call["method"] == "get":
        post(f"rpc/{call['id']}", {"got": call["params"]})
