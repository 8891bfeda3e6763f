"""Lines to paste: how to be a device, and how to call it, without any of our own tools."""

from __future__ import annotations

import json
import shlex
from typing import NamedTuple

from rpcbroker.cli.values import Address

_REQUESTS = "v1/devices/me/rpc/request/+"

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


def snippets(*, url: str, device_id: str, name: str, token: str, mqtt: Address) -> tuple[Snippet, ...]:
    """For one device: watch its calls, answer them, make one."""
    body = json.dumps({"method": "echo", "params": {"hello": "device"}})
    return (
        Snippet(
            "Watch its calls (without answering them)",
            f"mosquitto_sub -h {shlex.quote(mqtt.host)} -p {mqtt.port} -u {shlex.quote(token)} "
            f"-q 1 -v -t '{_REQUESTS}'",
        ),
        Snippet(
            "Be the device, in Python (pip install paho-mqtt)",
            _PYTHON.format(
                filter=json.dumps(_REQUESTS),
                token=json.dumps(token),
                host=json.dumps(mqtt.host),
                port=mqtt.port,
            ),
        ),
        Snippet(
            "Call it, from another terminal",
            f"rpcbroker call {shlex.quote(name)} echo hello=device",
        ),
        Snippet(
            "The same call with curl",
            f"curl -sS {shlex.quote(f'{url}/api/rpc/twoway/{device_id}')} "
            '-H "X-Authorization: Bearer $(rpcbroker token)" '
            f"-H 'Content-Type: application/json' -d {shlex.quote(body)}",
        ),
    )
