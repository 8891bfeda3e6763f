// What happens, as it happens: WAMP over WebSocket, in the name of who is signed in. The connection comes and goes with
// the session, and comes back by itself when it is lost.

import Wampy from "./vendor/wampy.js";
import { ApiError, onSession, renew, request, session, ticket } from "./session.js";

const FIRST_WAIT = 300; // ms until it is tried again, then twice that, and so on
const LONGEST_WAIT = 5_000;
const SUBSCRIBE = 32; // of WAMP's messages
const ERRORS = "rpcbroker.error.";
const REFUSED = /authentication|not_authorized/; // the ticket is not good any more

let client = null;
let attempt = 0; // counts connections, so that what is awaited for an older one is let go
let state = "lost"; // connecting, live, lost; off: this broker has no feed
let wait = FIRST_WAIT;
let timer = null;
const listeners = new Set();
const watched = new Map(); // by match and topic: what is subscribed to, and who listens
const asked = new Map(); // by the name that Wampy is told: what is really asked for
let names = 0;

export const feedState = () => state;

// Calls `listener(state)` whenever that changes. Returns what ends that.
export function onFeedState(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// Calls `onEvent(fields, topic)` for each event of the topic; `match` is exact, prefix or wildcard; `payloads`: with
// params, replies and values, as far as the user may see them. `onGap()` is called when the subscription begins, or
// begins again, or events were dropped: time to ask how things are now. Holds over lost connections. Returns what ends
// it.
export function watch(topic, onEvent, { match = "exact", payloads = false, onGap = () => {} } = {}) {
  const key = `${match} ${topic}`;
  if (!watched.has(key)) {
    watched.set(key, { key, topic, match, watchers: new Set(), on: null, n: null, turn: Promise.resolve() });
  }
  const subscription = watched.get(key);
  const watcher = { onEvent, onGap, payloads };
  subscription.watchers.add(watcher);
  settle(subscription);
  return () => {
    subscription.watchers.delete(watcher);
    settle(subscription);
  };
}

// Calls a procedure; what comes back is its first positional result. `onProgress(value)` hears of interim ones; when
// `signal` aborts, the call is cancelled. Raises ApiError.
export async function call(procedure, args = [], kwargs = {}, { onProgress, signal } = {}) {
  if (state !== "live") throw new ApiError({ message: "The feed is not connected", hint: "It is tried again." });
  const mine = client;
  const options = onProgress ? { progress_callback: (interim) => onProgress(interim.argsList?.[0]) } : undefined;
  const answer = mine.call(procedure, { argsList: args, argsDict: kwargs }, options);
  const { reqId } = mine.getOpStatus();
  const cancel = () => {
    try {
      mine.cancel(reqId);
    } catch {
      // it has ended meanwhile
    }
  };
  signal?.addEventListener("abort", cancel);
  try {
    return (await answer).argsList?.[0] ?? null;
  } catch (error) {
    throw asApiError(error);
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}

function asApiError(error) {
  const uri = error.errorUri;
  if (!uri) return new ApiError({ message: "The connection to the broker was lost" });
  const { reason, hint, rpcId } = error.argsDict ?? {};
  return new ApiError({
    message: String(error.argsList?.[0] ?? uri),
    reason: reason ?? (uri.startsWith(ERRORS) ? uri.slice(ERRORS.length) : uri),
    hint,
    rpcId,
  });
}

// -- subscriptions

// One change after the other, for each topic: what is wanted may change while the broker is asked.
function settle(subscription) {
  subscription.turn = subscription.turn.then(() => bring(subscription)).catch(() => {});
}

async function bring(subscription) {
  const { watchers, topic, match, key } = subscription;
  const wantsPayloads = () => [...watchers].some((watcher) => watcher.payloads);
  const mine = client;
  let on = subscription.on?.client === mine ? subscription.on : null;
  if (state === "live") {
    if (on && (!watchers.size || (wantsPayloads() && !on.payloads))) {
      subscription.on = null;
      await mine.unsubscribe(on.id);
      on = null;
    }
    if (!on && watchers.size) {
      const payloads = wantsPayloads(); // of those who are there now: some may have come meanwhile
      const name = `watch${++names}`;
      asked.set(name, { options: { match, payloads }, topic });
      const { subscriptionId } = await mine.subscribe(name, (event) => heard(subscription, event));
      asked.delete(name);
      subscription.n = null;
      subscription.on = { client: mine, id: subscriptionId, payloads };
      for (const watcher of watchers) watcher.onGap();
    }
  }
  if (!watchers.size && watched.get(key) === subscription && !subscription.on) watched.delete(key);
}

function heard(subscription, { details, argsDict: fields }) {
  const missed = subscription.n !== null && fields.n !== subscription.n + 1;
  subscription.n = fields.n ?? null;
  for (const watcher of subscription.watchers) {
    if (missed) watcher.onGap();
    watcher.onEvent(fields, details.topic ?? subscription.topic);
  }
}

// Wampy loses the options of a subscription when it ends, and then fails; and it hands on no options that it does not
// know. So it is told a name only, and what that stands for is written here.
const serializer = {
  protocol: "json",
  isBinary: false,
  decode: JSON.parse,
  encode(message) {
    if (message[0] !== SUBSCRIBE) return JSON.stringify(message);
    const [type, request, , name] = message;
    const { options, topic } = asked.get(name);
    return JSON.stringify([type, request, options, topic]);
  },
};

// -- the connection

function become(next) {
  if (state === next) return;
  state = next;
  for (const listener of listeners) listener(state);
}

// Where WAMP is spoken, null if it is not.
async function feedPath() {
  const { urls } = await request("GET", "/api/endpoints");
  const url = urls["wamp-ws"] ?? urls["wamp-wss"];
  return url ? new URL(url).pathname : null;
}

async function connect() {
  clearTimeout(timer);
  const number = ++attempt;
  become("connecting");
  let mine;
  try {
    const path = await feedPath();
    const shown = await ticket();
    if (number !== attempt) return;
    if (path === null) return become("off");
    mine = client = new Wampy(path, {
      realm: "rpcbroker",
      authid: session.user.email,
      authmethods: ["ticket"],
      onChallenge: () => shown,
      uriValidation: "loose",
      autoReconnect: false, // Wampy's does not come back after a GOODBYE, such as that of a broker that restarts
      serializer,
      onClose: () => lost(number),
    });
    await mine.connect();
  } catch (error) {
    if (number === attempt && REFUSED.test(error.errorUri)) await renew().catch(() => {});
    lost(number);
    return;
  }
  if (number !== attempt) {
    mine.disconnect().catch(() => {}); // its user has signed out meanwhile
    return;
  }
  wait = FIRST_WAIT;
  become("live");
  watched.forEach(settle);
}

function lost(number) {
  if (number !== attempt) return;
  attempt++;
  client = null;
  become("lost");
  if (!wanted()) return;
  timer = setTimeout(connect, wait * (0.5 + Math.random()));
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

function close() {
  const mine = state === "live" ? client : null; // who still connects lets go then: browsers complain of it before
  attempt++;
  client = null;
  clearTimeout(timer);
  become("lost");
  mine?.disconnect().catch(() => {});
}

// System administrators see no devices, and so no feed.
const wanted = () => session.signedIn && session.user.authority !== "SYS_ADMIN";

onSession(() => {
  if (!wanted()) {
    close();
  } else if (state === "live") {
    ticket()
      .then((shown) => call("rpcbroker.session.renew", [shown]))
      .catch(() => {});
  } else if (state === "lost") {
    wait = FIRST_WAIT;
    connect();
  }
});

addEventListener("online", () => {
  if (wanted() && state === "lost") connect();
});
