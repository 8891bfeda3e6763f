"""Lines to paste: how to be a device, and how to call it, without any of our own tools."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
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


def own_program(name: str = "rpcbroker") -> str:
    """How `name` of this installation is run from a shell: by its name if that finds it, else by its path."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None and (Path(found).resolve() == beside.resolve() or not beside.exists()):
        return name
    return shlex.quote(str(beside)) if beside.exists() else name


def snippets(*, url: str, device_id: str, name: str, token: str, mqtt: Address, program: str) -> tuple[Snippet, ...]:
    """For one device: watch its calls, answer them, make one. `program` is how we are run."""
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
            f"{program} call {shlex.quote(name)} echo hello=device",
        ),
        Snippet(
            "The same call with curl",
            f"curl -sS {shlex.quote(f'{url}/api/rpc/twoway/{device_id}')} "
            f'-H "X-Authorization: Bearer $({program} token)" '
            f"-H 'Content-Type: application/json' -d {shlex.quote(body)}",
        ),
    )
