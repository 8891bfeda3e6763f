"""A device on the vendor's SDK: its own questions first, then what it is called for. Port, token."""

import json
import sys
import threading

from tb_device_mqtt import TBDeviceMqttClient

connected = threading.Event()


class Device(TBDeviceMqttClient):
    """One that says when all its subscriptions are under way: its own callback is set after it has connected."""

    def _on_connect(self, *args):
        super()._on_connect(*args)
        connected.set()


client = Device("127.0.0.1", port=int(sys.argv[1]), username=sys.argv[2])


def say(**what):
    print(json.dumps(what), flush=True)


def called(number, call):
    say(called={"method": call["method"], "params": call["params"]})
    if call["method"] == "get":
        client.send_rpc_reply(number, {"got": call["params"]})


def asked(method):
    return lambda _number, answer, error: say(asked=method, answer=answer)


client.set_server_side_rpc_request_handler(called)
client.connect()
connected.wait()
client.send_telemetry({"temperature": 21.5})
for each in ("getCurrentTime", "getSessionLimits"):
    client.send_rpc_call(each, {}, asked(each))
threading.Event().wait()
