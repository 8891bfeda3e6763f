// Lines to paste: how to be a device, without any tools of our own. The command line's are in cli/snippets.py.

import { quoted } from "./endpoints.js";

const FILTER = "v1/devices/me/rpc/request/+";
const REPLY = '{"done":true}';

// [title, text] of each; `at` is what `endpoints()` says, `credentials` are the API's.
export function snippets({ at, credentials, deviceId }) {
  const token = credentials.credentialsType === "ACCESS_TOKEN" ? credentials.credentialsId : null;
  const login = mqttLogin(credentials);
  const found = [];
  if (at.mqtt && login) found.push(...overMqtt(at.mqtt, login, false));
  else if (at.mqtts && login) found.push(...overMqtt(at.mqtts, login, true));
  if (token !== null) found.push(...overHttp(`${at.http}/api/v1/${encodeURIComponent(token)}`));
  if (at.coap && token !== null) found.push(...overCoap(at.coap, token));
  found.push([
    "Call it, with curl (the token of a login, or an API key, in $TOKEN)",
    `curl -sS ${quoted(`${at.http}/api/rpc/twoway/${deviceId}`)} -H "X-Authorization: Bearer $TOKEN" ` +
      `-H 'Content-Type: application/json' -d '{"method":"echo","params":{"hello":"device"}}'`,
  ]);
  return found;
}

// {clientId, userName, password} as MQTT has them; null: it proves who it is in another way.
function mqttLogin({ credentialsType, credentialsId, credentialsValue }) {
  if (credentialsType === "ACCESS_TOKEN") return { userName: credentialsId };
  if (credentialsType !== "MQTT_BASIC") return null;
  try {
    return JSON.parse(credentialsValue);
  } catch {
    return null;
  }
}

function overMqtt({ host, port }, { clientId, userName, password }, secure) {
  const options = [`-h ${quoted(host)} -p ${port}`];
  if (secure) options.push("--capath /etc/ssl/certs");
  if (userName) options.push(`-u ${quoted(userName)}`);
  if (password) options.push(`-P ${quoted(password)}`);
  if (clientId) options.push(`-i ${quoted(clientId)}`);
  const login = options.join(" ");
  return [
    ["Watch its calls, with mosquitto", `mosquitto_sub ${login} -q 1 -v -t '${FILTER}'`],
    ["Send telemetry, with mosquitto", `mosquitto_pub ${login} -q 1 -t v1/devices/me/telemetry -m '{"temperature":21.5}'`],
    ["Be the device, in Python (pip install paho-mqtt)", python(host, port, { clientId, userName, password, secure })],
  ];
}

function python(host, port, { clientId, userName, password, secure }) {
  const text = (value) => JSON.stringify(value); // of JSON and of Python
  const name = clientId ? `, client_id=${text(clientId)}` : "";
  const login = userName ? `\nclient.username_pw_set(${text(userName)}${password ? `, ${text(password)}` : ""})` : "";
  const tls = secure ? "\nclient.tls_set()" : "";
  return `import json
import paho.mqtt.client as mqtt

def on_connect(client, userdata, flags, reason_code, properties):
    print("connected:", reason_code)
    client.subscribe(${text(FILTER)}, qos=1)

def on_message(client, userdata, message):
    call = json.loads(message.payload)
    print("called:", call)
    client.publish(message.topic.replace("request", "response"), json.dumps({"you said": call["params"]}))

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2${name})${login}${tls}
client.on_connect = on_connect
client.on_message = on_message
client.connect(${text(host)}, ${port})
client.loop_forever()`;
}

function overHttp(device) {
  return [
    ["Wait for one call, with curl", `curl -sS ${quoted(`${device}/rpc?timeout=60000`)}`],
    [
      "Answer it, with curl (write its id for ID)",
      `curl -sS -H 'Content-Type: application/json' -d ${quoted(REPLY)} ${quoted(`${device}/rpc/ID`)}`,
    ],
  ];
}

function overCoap({ host, port }, token) {
  const device = `coap://${host.includes(":") ? `[${host}]` : host}:${port}/api/v1/${encodeURIComponent(token)}`;
  return [
    ["Observe its calls for an hour, with coap-client", `coap-client -s 3600 ${quoted(`${device}/rpc`)}`],
    [
      "Answer one, with coap-client (write its id for ID)",
      `coap-client -m post -t json -e ${quoted(REPLY)} ${quoted(`${device}/rpc/ID`)}`,
    ],
  ];
}
