// An application on autobahn-js: URL, serializer, ticket, and whether it serves or uses. It says what it sees.

import autobahn from "autobahn";

const [url, serializer, ticket, role] = process.argv.slice(2);
const say = (what) => console.log(JSON.stringify(what));
const SERIALIZERS = {
  json: autobahn.serializer.JSONSerializer,
  msgpack: autobahn.serializer.MsgpackSerializer,
  cbor: autobahn.serializer.CBORSerializer,
};
const place = new URL(url);
const transport =
  place.protocol === "rs:"
    ? { type: "rawsocket", host: place.hostname, port: Number(place.port) }
    : { type: "websocket", url, serializers: [new SERIALIZERS[serializer]()] };

const connection = new autobahn.Connection({
  transports: [transport],
  realm: "rpcbroker",
  authmethods: ["ticket"],
  authid: "whoever",
  onchallenge: () => ticket,
  max_retries: 0,
});

// Answers procedures, and tells of events, until it is ended.
async function serve(session) {
  const event = (args, kwargs, details) => say({ event: [args, kwargs, details.topic] });
  await session.register("com.example.add", ([a, b]) => a + b);
  await session.register("com.example.count", ([most], _, details) => {
    for (let number = 0; number < most; number++) details.progress([number]);
    return "counted";
  });
  await session.register("com.example.wait", () => new Promise(() => {}));
  await session.register("com.example.fail", () => {
    throw new autobahn.Error("com.example.error.no", ["not"], { why: "so" });
  });
  await session.subscribe("com.example.topic", event);
  await session.subscribe("com.example.t", event, { match: "prefix" });
  await session.subscribe("com..topic", event, { match: "wildcard" });
  say({ ready: true });
}

// Calls what the other serves, publishes, and leaves.
async function use(session) {
  say({ result: await session.call("com.example.add", [2, 3]) });
  const progress = [];
  const counting = session.call("com.example.count", [3], {}, { receive_progress: true });
  const result = await new Promise((resolve, reject) => counting.then(resolve, reject, (each) => progress.push(each)));
  say({ result: [progress, result] });
  for (const procedure of ["com.example.fail", "com.example.nothing", "rpcbroker.nothing"]) {
    await session.call(procedure).then(null, ({ error, args, kwargs }) => say({ error: [error, args, kwargs ?? {}] }));
  }
  const calling = session.call("com.example.wait");
  calling.cancel({ mode: "kill" }); // in other modes autobahn-js takes the router's ERROR for a violation
  await calling.then(null, () => say({ cancelled: true }));
  await session.publish("com.example.topic", [1, "\u00e4"], { a: [null, 1.5] }, { acknowledge: true });
  const forged = session.publish("rpcbroker.call.forged", [], {}, { acknowledge: true });
  await forged.then(null, ({ error }) => say({ error: [error, [], {}] }));
  const devices = await session.call("rpcbroker.device.list");
  say({ devices: devices.totalElements });
  connection.close();
}

connection.onopen = (session, details) => {
  say({ joined: [details.realm, details.authid, details.authrole] });
  (role === "serve" ? serve : use)(session).catch((error) => {
    console.error(error);
    process.exit(1);
  });
};
connection.onclose = (reason, details) => {
  console.error(reason, details);
  process.exit(reason === "closed" ? 0 : 1);
};
connection.open();
