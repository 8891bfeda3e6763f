// A device on MQTT.js: its own questions first, then what it is called for. URL, version, token, QoS.

import mqtt from "mqtt";

const [url, version, username, level] = process.argv.slice(2);
const VERSIONS = {
  3.1: { protocolVersion: 3, protocolId: "MQIsdp" },
  "3.1.1": { protocolVersion: 4 },
  5: { protocolVersion: 5 },
};
const ME = "v1/devices/me";
const QUESTIONS = { 1: "getCurrentTime", 2: "getSessionLimits" };
const qos = Number(level);
const say = (what) => console.log(JSON.stringify(what));

const client = mqtt.connect(url, { ...VERSIONS[version], username, clientId: "mqttjs", reconnectPeriod: 0 });

client.on("error", (error) => {
  console.error(error);
  process.exit(1);
});

client.on("connect", async () => {
  await client.subscribeAsync([`${ME}/rpc/request/+`, `${ME}/rpc/response/+`], { qos });
  await client.publishAsync(`${ME}/telemetry`, '{"temperature": 21.5}', { qos });
  for (const [number, method] of Object.entries(QUESTIONS)) {
    await client.publishAsync(`${ME}/rpc/request/${number}`, JSON.stringify({ method, params: {} }), { qos });
  }
});

client.on("message", (topic, payload) => {
  const content = JSON.parse(payload);
  const number = topic.split("/").pop();
  if (topic.includes("/response/")) {
    say({ asked: QUESTIONS[number], answer: content });
    return;
  }
  say({ called: content });
  if (content.method === "get") {
    client.publish(`${ME}/rpc/response/${number}`, JSON.stringify({ got: content.params }), { qos });
  }
});
