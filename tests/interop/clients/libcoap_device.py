"""A device on libcoap's coap-client: its own questions first, then what it is called for.

The program, the URL up to the feature, and options that each of its runs gets.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

PROGRAM, URL, *OPTIONS = sys.argv[1:]


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def coap(method: str, feature: str, body: Any) -> str:
    """One request; what it prints, which is the payload of the answer. A refusal is on stderr, and no failure."""
    done = subprocess.run(
        [PROGRAM, *OPTIONS, "-B", "10", "-m", method, "-f", "-", f"{URL}/{feature}"],
        input=json.dumps(body),
        check=True,
        capture_output=True,
        text=True,
    )
    if done.stderr.strip():
        raise SystemExit(f"{method} {feature}: {done.stderr}")
    return done.stdout


def calls(printed: IO[bytes]) -> Iterator[Any]:
    """What a client prints that observes: payload after payload, and block after block, with nothing between them."""
    text = ""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    while data := os.read(printed.fileno(), 65536):
        text += utf8.decode(data)
        while text:
            try:
                call, end = json.JSONDecoder().raw_decode(text)
            except ValueError:  # there is more to come
                break
            yield call
            text = text[end:]


signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # and so the observer is ended below
say(asked="getCurrentTime", answer=json.loads(coap("post", "rpc", {"method": "getCurrentTime", "params": {}})))
coap("post", "telemetry", {"temperature": 21.5})
coap("post", "telemetry", {"long": "x" * 5000})
command = [PROGRAM, *OPTIONS, "-s", "600", f"{URL}/rpc"]
with subprocess.Popen(command, stdout=subprocess.PIPE) as listener:
    try:
        assert listener.stdout is not None
        for call in calls(listener.stdout):
            say(called={"method": call["method"], "params": call["params"]})
            if call["method"] == "get":
                coap("post", f"rpc/{call['id']}", {"got": call["params"]})
    finally:
        listener.terminate()
