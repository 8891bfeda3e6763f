// A device on node-coap: its own questions first, then what it is called for. The URL up to the feature, CON or NON.

import coap from "coap";

const [base, kind] = process.argv.slice(2);
const url = new URL(base);
const say = (what) => console.log(JSON.stringify(what));
const BLOCKS_OF_512 = Buffer.of(0x05);

function fail(error) {
  console.error(error);
  process.exit(1);
}

function request(feature, more) {
  const made = coap.request({
    hostname: url.hostname,
    port: Number(url.port),
    pathname: `${url.pathname}/${feature}`,
    confirmable: kind === "CON",
    ...more,
  });
  made.on("error", fail);
  return made;
}

function post(feature, body) {
  return new Promise((resolve) => {
    const content = Buffer.from(JSON.stringify(body));
    const made = request(feature, { method: "POST" });
    made.setOption("Content-Format", "application/json");
    if (content.length > 512) made.setOption("Block1", BLOCKS_OF_512);
    made.on("response", (answer) => {
      if (!answer.code.startsWith("2.")) fail(`${feature}: ${answer.code} ${answer.payload}`);
      resolve(answer.payload);
    });
    made.end(content);
  });
}

const answer = await post("rpc", { method: "getCurrentTime", params: {} });
say({ asked: "getCurrentTime", answer: JSON.parse(answer) });
await post("telemetry", { temperature: 21.5 });
await post("telemetry", { long: "x".repeat(5000) });

const listening = request("rpc", { observe: true });
listening.on("response", (calls) => {
  if (!calls.code.startsWith("2.")) fail(`rpc: ${calls.code}`);
  // It takes what comes in blocks for old: the last block has no Observe option, nor may it have one.
  calls._disableFiltering = true;
  calls.on("data", (payload) => {
    if (payload.length === 0) return; // the registration's answer
    const call = JSON.parse(payload);
    say({ called: { method: call.method, params: call.params } });
    if (call.method === "get") post(`rpc/${call.id}`, { got: call.params });
  });
});
listening.end();
