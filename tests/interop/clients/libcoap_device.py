"""A device on libcoap's coap-client: its own questions first, then what it is called for.

The program, the URL up to the feature, and options that each of its runs gets.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

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


signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # and so the observer is ended below
say(asked="getCurrentTime", answer=json.loads(coap("post", "rpc", {"method": "getCurrentTime", "params": {}})))
coap("post", "telemetry", {"temperature": 21.5})
coap("post", "telemetry", {"long": "x" * 5000})
command = [PROGRAM, *OPTIONS, "-s", "600", "-w", f"{URL}/rpc"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
    try:
        assert listener.stdout is not None
        for line in listener.stdout:
            if not line.strip():  # the registration's answer
                continue
            call = json.loads(line)
            say(called={"method": call["method"], "params": call["params"]})
            if call["method"] == "get":
                coap("post", f"rpc/{call['id']}", {"got": call["params"]})
    finally:
        listener.terminate()
