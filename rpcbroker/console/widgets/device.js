// What widgets need of a device: calls, the last values, whether it can be called, and what it tells.

import { useEffect, useState } from "../vendor/htm-preact.js";
import { watch } from "../feed.js";
import { request } from "../session.js";
import { outcomeOf } from "./answers.js";

const path = (id) => encodeURIComponent(id);

// -- calls

// Calls a device as ThingsBoard's widgets do; resolves to the reply, null for a one-way call. A persistent call is
// awaited, too, whatever it takes. Raises ApiError, and Errors with a `status`.
export async function callDevice(deviceId, { method, params, oneway, timeout, persistent, pollingInterval }, signal) {
  const body = { method, params, persistent: persistent || undefined, timeout };
  const answer = await request("POST", `/api/rpc/${oneway ? "oneway" : "twoway"}/${path(deviceId)}`, { body, signal });
  return persistent ? outcome(deviceId, answer.rpcId, pollingInterval, signal) : answer;
}

// Asked for when something is told of the call, and now and then, for the feed may be lost.
async function outcome(deviceId, rpcId, interval, signal) {
  let wake = () => {};
  const unwatch = watch(`rpcbroker.call.${deviceId}.`, (fields) => fields.rpcId === rpcId && wake(), {
    match: "prefix",
    onGap: () => wake(),
  });
  try {
    for (;;) {
      signal?.throwIfAborted();
      const told = new Promise((resolve) => (wake = resolve));
      const ended = outcomeOf(await request("GET", `/api/rpc/persistent/${path(rpcId)}`, { signal }));
      if (ended?.error) throw ended.error;
      if (ended) return ended.reply;
      await Promise.race([told, new Promise((resolve) => setTimeout(resolve, interval))]);
    }
  } finally {
    unwatch();
  }
}

// -- values

const VALUES = "/api/plugins/telemetry/DEVICE";

// {ts, value} of a key, null if there is none. `source` is attribute, timeseries, or latest: the newer one of both.
export async function latestValue(deviceId, key, source, signal) {
  const found = await Promise.all([
    source !== "timeseries" && attribute(deviceId, key, signal),
    source !== "attribute" && telemetry(deviceId, [key], signal).then((values) => values[key]),
  ]);
  return found.filter(Boolean).sort((one, other) => other.ts - one.ts)[0] ?? null;
}

async function attribute(deviceId, key, signal) {
  const found = await request("GET", `${VALUES}/${path(deviceId)}/values/attributes`, { query: { keys: key }, signal });
  const newest = found.sort((one, other) => other.lastUpdateTs - one.lastUpdateTs)[0];
  return newest && { ts: newest.lastUpdateTs, value: newest.value };
}

// The last {ts, value} of each key that has one.
export async function telemetry(deviceId, keys, signal) {
  const query = { keys: keys.join(","), useStrictDataTypes: true };
  const found = await request("GET", `${VALUES}/${path(deviceId)}/values/timeseries`, { query, signal });
  return Object.fromEntries(
    Object.entries(found)
      .filter(([, points]) => points[0] && points[0].value !== null)
      .map(([key, points]) => [key, points[0]]),
  );
}

// Calls `onValues(values, source)` with what the device tells from now on, {key: value}, oldest first; `source` is
// attribute or timeseries. `onGap()` when something may have been missed. Returns what ends it.
export function watchValues(deviceId, onValues, onGap) {
  const told = (fields, topic) => {
    if (topic.endsWith(".attributes")) return onValues(fields.values, "attribute");
    const posted = [...fields.values].sort((one, other) => one.ts - other.ts);
    for (const { values } of posted) onValues(values, "timeseries");
  };
  return watch(`rpcbroker.values.${deviceId}.`, told, { match: "prefix", payloads: true, onGap });
}

// -- whether it can be called

const followed = new Map(); // device id -> what is known of it, shared by all widgets

// Calls `onCallable(callable)` with true or false, or with null if that cannot be found out, now and whenever it changes;
// and with the same again when it was lost from sight meanwhile. Returns what ends it.
export function watchCallable(deviceId, onCallable) {
  let device = followed.get(deviceId);
  if (!device) followed.set(deviceId, (device = begin(deviceId)));
  device.listeners.add(onCallable);
  if (device.callable !== undefined) onCallable(device.callable);
  return () => {
    device.listeners.delete(onCallable);
    if (device.listeners.size || followed.get(deviceId) !== device) return;
    followed.delete(deviceId);
    device.end();
  };
}

function begin(deviceId) {
  const device = { callable: undefined, listeners: new Set(), end: () => {} };
  let turn = 0; // what is told by the feed is newer than what was asked for before it
  const tell = (callable) => {
    device.callable = callable;
    for (const listener of [...device.listeners]) listener(callable);
  };
  const ask = async () => {
    const mine = ++turn;
    const callable = await request("GET", `/api/device/${path(deviceId)}/presence`).then(
      (presence) => presence.callable.value,
      () => null,
    );
    if (mine === turn) tell(callable);
  };
  const heard = (fields) => {
    if (typeof fields.callable !== "boolean" || fields.callable === device.callable) return;
    turn++;
    tell(fields.callable);
  };
  device.end = watch(`rpcbroker.device.${deviceId}.`, heard, { match: "prefix", onGap: ask });
  ask();
  return device;
}

// The same for a component; undefined while it is not known.
export function useCallable(deviceId) {
  const [callable, setCallable] = useState(undefined);
  useEffect(() => {
    setCallable(undefined);
    return deviceId ? watchCallable(deviceId, setCallable) : undefined;
  }, [deviceId]);
  return callable;
}
