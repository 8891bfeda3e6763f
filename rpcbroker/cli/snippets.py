"""Lines to paste: how to be a device, and how to call it, without any of our own tools."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rpcbroker.cli.values import Address

_REQUESTS = "v1/devices/me/rpc/request/+"
_REPLY = '{"done":true}'
_COAP_CLIENTS = ("coap-client", "coap-client-notls", "coap-client-openssl", "coap-client-gnutls")

_PYTHON = """\
python3 - <<'EOF'
import json
import paho.mqtt.client as mqtt

def on_connect(client, userdata, flags, reason_code, properties):
    print("connected:", reason_code)
    client.subscribe({filter}, qos=1)

def on_message(client, userdata, message):
    call = json.loads(message.payload)
    print("called:", call)
    client.publish(message.topic.replace("request", "response"), json.dumps({{"you said": call["params"]}}))

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.username_pw_set({token})
client.on_connect = on_connect
client.on_message = on_message
client.connect({host}, {port})
client.loop_forever()
EOF"""


class Snippet(NamedTuple):
    title: str
    text: str


def own_program(name: str = "rpcbroker") -> str:
    """How `name` of this installation is run from a shell: by its name if that finds it, else by its path."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None and (Path(found).resolve() == beside.resolve() or not beside.exists()):
        return name
    return shlex.quote(str(beside)) if beside.exists() else name


def snippets(
    *,
    url: str,
    device_id: str,
    name: str,
    token: str,
    mqtt: Address | None,
    program: str,
    coap: Address | None = None,
) -> tuple[Snippet, ...]:
    """For one device: watch its calls, answer them, make one. `program` is how we are run.

    `mqtt` and `coap` are where the broker speaks these; None: it does not.
    """
    body = json.dumps({"method": "echo", "params": {"hello": "device"}})
    found: list[Snippet] = []
    if mqtt is not None:
        found += _over_mqtt(mqtt, token)
    if coap is not None:
        host = f"[{coap.host}]" if ":" in coap.host else coap.host
        found += _over_coap(f"coap://{host}:{coap.port}/api/v1/{quote(token, safe='')}")
    found += _over_http(f"{url}/api/v1/{quote(token, safe='')}")
    return (
        *found,
        Snippet("Call it, from another terminal", f"{program} call {shlex.quote(name)} echo hello=device"),
        Snippet(
            "The same call with curl",
            f"curl -sS {shlex.quote(f'{url}/api/rpc/twoway/{device_id}')} "
            f'-H "X-Authorization: Bearer $({program} token)" '
            f"-H 'Content-Type: application/json' -d {shlex.quote(body)}",
        ),
    )


def _over_mqtt(at: Address, token: str) -> tuple[Snippet, ...]:
    login = f"-h {shlex.quote(at.host)} -p {at.port} -u {shlex.quote(token)}"
    return (
        Snippet(
            "Watch its calls over MQTT (without answering them)",
            f"mosquitto_sub {login} -q 1 -v -t '{_REQUESTS}'",
        ),
        Snippet(
            "Be the device over MQTT, in Python (pip install paho-mqtt)",
            _PYTHON.format(
                filter=json.dumps(_REQUESTS), token=json.dumps(token), host=json.dumps(at.host), port=at.port
            ),
        ),
    )


def _over_coap(device: str) -> tuple[Snippet, ...]:
    """`device` is the URL of its API. libcoap's client has several names, by what it is built with."""
    client = next((each for each in _COAP_CLIENTS if shutil.which(each)), _COAP_CLIENTS[0])
    return (
        Snippet("Observe its calls over CoAP, for an hour", f"{client} -s 3600 {shlex.quote(f'{device}/rpc')}"),
        Snippet(
            "Answer one over CoAP (write its id for ID)",
            f"{client} -m post -t json -e {shlex.quote(_REPLY)} {shlex.quote(f'{device}/rpc/ID')}",
        ),
    )


def _over_http(device: str) -> tuple[Snippet, ...]:
    stream = shlex.quote(f"{device}/rpc")
    return (
        Snippet("Wait for one call over HTTP, for a minute", f"curl -sS {shlex.quote(f'{device}/rpc?timeout=60000')}"),
        Snippet("Get all of them, as server-sent events", f"curl -sSN -H 'Accept: text/event-stream' {stream}"),
        Snippet(
            "Answer one over HTTP (write its id for ID)",
            f"curl -sS -H 'Content-Type: application/json' -d {shlex.quote(_REPLY)} {shlex.quote(f'{device}/rpc/ID')}",
        ),
    )
