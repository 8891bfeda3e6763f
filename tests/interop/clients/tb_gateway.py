"""A gateway with one child on the vendor's SDK; it says what it sees. Port, token, name of the child."""

import json
import sys
import threading

from tb_gateway_mqtt import TBGatewayMqttClient

port, token, child = sys.argv[1:]
connected = threading.Event()


class Gateway(TBGatewayMqttClient):
    """One that says when all its subscriptions are under way: its own callback is set after it has connected."""

    def _on_connect(self, *args):
        super()._on_connect(*args)
        connected.set()


gateway = Gateway("127.0.0.1", port=int(port), username=token)


def say(**what):
    print(json.dumps(what), flush=True)


def called(_gateway, content):
    data = content["data"]
    say(device=content["device"], called={"method": data["method"], "params": data["params"]})
    if data["method"] == "get":
        gateway.gw_send_rpc_reply(content["device"], data["id"], {"got": data["params"]})


gateway.gw_set_server_side_rpc_request_handler(called)
gateway.connect()
connected.wait()
gateway.send_rpc_call("getSessionLimits", {}, lambda _number, answer, _error: say(limits=answer))
gateway.gw_connect_device(child, "thermometer")
gateway.gw_subscribe_to_all_device_attributes(
    child, lambda content: say(device=content["device"], told=content["data"])
)
gateway.gw_send_telemetry(child, {"temperature": 21.5})
gateway.gw_send_attributes(child, {"serial": "A-1"}).get()
gateway.gw_request_client_attributes(child, ["serial"], lambda content, _error: say(attributes=content))
for line in sys.stdin:
    if line.strip() == "disconnect":
        gateway.gw_disconnect_device(child)
