// One call as lines to paste into a terminal. Names and params are anybody's text: each line quotes them for who reads it.

import { quoted } from "../endpoints.js";

// [title, text] each, of {deviceId, method, params, oneWay, persistent, wireId, timeout}; `at` is what `endpoints` gives.
export function callSnippets({ deviceId, method, params, oneWay, persistent, wireId, timeout }, at) {
  const address = `${at.http}/api/rpc/${oneWay ? "oneway" : "twoway"}/${deviceId}`;
  const body = JSON.stringify({ method, params, ...(timeout && { timeout }), ...(persistent && { persistent }) });
  const mosquitto = at.mqtt && `-h ${quoted(at.mqtt.host)} -p ${at.mqtt.port} -u "$ACCESS_TOKEN" -q 1`;
  return [
    [
      "curl",
      `curl -sS ${quoted(address)} -H "X-Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\\n  --data-raw ${quoted(body)}`,
    ],
    [
      "Python",
      [
        "import os, urllib.request",
        "",
        `body = ${JSON.stringify(body)}`,
        `request = urllib.request.Request("${address}", data=body.encode())`,
        'request.add_header("Content-Type", "application/json")',
        `request.add_header("X-Authorization", "Bearer " + os.environ["TOKEN"])`,
        "with urllib.request.urlopen(request) as answer:",
        "    print(answer.status, answer.read().decode())",
      ].join("\n"),
    ],
    at.mqtt && [
      "mosquitto: the device's side, to see the call come and to answer it",
      [
        `mosquitto_sub ${mosquitto} -v -t 'v1/devices/me/rpc/request/+'`,
        `mosquitto_pub ${mosquitto} -t v1/devices/me/rpc/response/${wireId} -m '{"done":true}'`,
      ].join("\n"),
    ],
  ].filter(Boolean);
}
