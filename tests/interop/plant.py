"""A plant behind the vendor's gateway: its own MQTT broker, a device with topics of its own, the gateway's files."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from daemon import wait_for
from foreign import Foreign, program, python_of


class Plant:
    """A small plant: mosquitto as its own broker, and one device that speaks topics of its own.

    It posts a temperature to `plant/press/data`; what it is asked on `plant/press/request/METHOD/N` it notes, and
    answers {"got": what was asked} on `plant/press/response/METHOD/N`.
    """

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        conf = directory / "mosquitto.conf"
        conf.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        with (directory / "mosquitto.log").open("w") as log:
            self._broker = subprocess.Popen([program("mosquitto"), "-c", str(conf)], stdout=log, stderr=log)
        wait_for(self._listens, "mosquitto")
        self.heard: list[tuple[str, Any]] = []
        self._device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._device.on_connect = lambda *_: self._device.subscribe("plant/press/request/#", qos=1)
        self._device.on_message = self._asked
        self._device.connect("127.0.0.1", self.port)
        self._device.loop_start()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _asked(self, _client: Any, _data: Any, message: Any) -> None:
        content = json.loads(message.payload)
        self.heard.append((message.topic.split("/")[3], content))
        answer = json.dumps({"got": content})
        self._device.publish(message.topic.replace("request", "response"), answer, qos=1)

    def post(self, content: Any) -> None:
        """Retained: the gateway comes when it is ready."""
        self._device.publish("plant/press/data", json.dumps(content), qos=1, retain=True)

    def stop(self) -> None:
        self._device.disconnect()
        self._device.loop_stop()
        self._broker.terminate()
        self._broker.wait(10)


@contextmanager
def gateway(directory: Path, northbound: int, token: str) -> Iterator[Plant]:
    """A plant behind the vendor's gateway, which runs in `directory` and connects to the broker on port `northbound`."""
    python = Path(python_of("TB_GATEWAY_PYTHON"))
    plant = Plant(directory)
    try:
        configure(directory, northbound, token, plant.port)
        # it asks its maker for updates; nothing in a test leaves the machine
        nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
        command = [str(python.parent / "thingsboard-gateway")]
        with Foreign(command, directory, TB_GW_CONFIG_DIR=f"{directory}/", **nowhere):
            yield plant
    finally:
        plant.stop()


def configure(directory: Path, northbound: int, token: str, southbound: int) -> None:
    """The gateway's configuration: its server, and a connector to the plant's broker."""
    rpc = {
        "deviceNameFilter": ".*",
        "requestTopicExpression": "plant/${deviceName}/request/${methodName}/${requestId}",
        "valueExpression": "${params}",
    }
    answered = {
        "responseTopicExpression": "plant/${deviceName}/response/${methodName}/${requestId}",
        "responseTopicQoS": 1,
        "responseTimeout": 10000,
    }
    name = {"deviceNameExpressionSource": "topic", "deviceNameExpression": "(?<=plant/)(.*?)(?=/data)"}
    profile = {"deviceProfileExpressionSource": "constant", "deviceProfileExpression": "press"}
    files: dict[str, Any] = {
        "tb_gateway.json": {
            "thingsboard": {
                "host": "127.0.0.1",
                "port": northbound,
                "remoteShell": False,
                "remoteConfiguration": False,
                "statistics": {"enable": False},
                "security": {"type": "accessToken", "accessToken": token},
                "qos": 1,
            },
            "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 1000},
            "grpc": {"enabled": False},
            "connectors": [{"type": "mqtt", "name": "plant", "configuration": "plant.json"}],
        },
        "plant.json": {
            "broker": {"host": "127.0.0.1", "port": southbound, "version": 5, "security": {"type": "anonymous"}},
            "mapping": [
                {
                    "topicFilter": "plant/+/data",
                    "subscriptionQos": 1,
                    "converter": {
                        "type": "json",
                        "deviceInfo": name | profile,
                        "attributes": [{"type": "string", "key": "maker", "value": "${maker}"}],
                        "timeseries": [{"type": "double", "key": "temperature", "value": "${temperature}"}],
                    },
                }
            ],
            "requestsMapping": {
                "serverSideRpc": [
                    rpc | answered | {"type": "twoWay", "methodFilter": "^get"},
                    rpc | {"type": "oneWay", "methodFilter": "^set"},
                ]
            },
        },
        "logs.json": {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            "root": {"level": "DEBUG", "handlers": ["console"]},
        },
        "connected_devices.json": {},
    }
    for file, content in files.items():
        (directory / file).write_text(json.dumps(content))
