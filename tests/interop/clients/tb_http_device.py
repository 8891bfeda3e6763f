"""A device on the vendor's SDK for HTTP: its own questions first, then what it is called for. The server, token."""

import json
import sys
import threading

from tb_device_http import TBHTTPDevice

device = TBHTTPDevice(sys.argv[1], sys.argv[2])


def say(**what):
    print(json.dumps(what), flush=True)


def called(call):
    say(called={"method": call["method"], "params": call["params"]})
    if call["method"] == "get":
        # all that the SDK can reply is an object of method and params
        device.send_rpc("got", call["params"], call["id"])


assert device.connect()
say(asked="getCurrentTime", answer=device.send_rpc("getCurrentTime"))
device.send_telemetry({"temperature": 21.5}, queued=False)
device.send_telemetry({"long": "x" * 5000}, queued=False)
device.subscribe("rpc", called)
threading.Event().wait()
