// The calls that were made from this page: the last of them, in its memory, each with what became of it.

import { call } from "./feed.js";
import { onSession, request, session } from "./session.js";
import { newUuid } from "./parts/uuid.js";

const MOST = 50;
const MOST_PROGRESS = 20;
const MOST_STEPS = 100; // the last ones

let made = []; // the newest first; an entry is replaced, never changed, when something happens to it
const listeners = new Set();

onSession(() => {
  if (!session.signedIn) made = [];
});

// Calls `listener()` when anything changes. Returns what ends that.
export function onMade(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// Those of one device. An entry has what was `asked`, its `steps` as the feed tells of them, `progress`, `running`, and
// at the end `reply` (undefined: there is none) or `error`.
export const madeTo = (deviceId) => made.filter((entry) => entry.deviceId === deviceId);

// The call of this id, if it was made here and is still remembered.
export const madeAs = (rpcId) => made.find((entry) => entry.rpcId === rpcId);

// Makes a call: `asked` is {method, params, oneway, timeout in ms or null, persistent}.
export async function make(deviceId, asked) {
  const rpcId = newUuid();
  const { method, params, oneway, timeout, persistent } = asked;
  const entry = { rpcId, deviceId, asked, began: Date.now(), steps: [], progress: [], running: true };
  made = [entry, ...made].slice(0, MOST);
  tell();
  const kwargs = { requestUUID: rpcId, ...(timeout && { timeout }), ...(persistent && { persistent }) };
  const onProgress = (value) => change(rpcId, (old) => ({ progress: [...old.progress, value].slice(-MOST_PROGRESS) }));
  try {
    const reply = await call(`rpcbroker.${oneway ? "notify" : "call"}`, [deviceId, method, params], kwargs, { onProgress });
    if (!persistent) change(rpcId, () => ({ running: false, reply: oneway ? undefined : reply }));
  } catch (error) {
    change(rpcId, () => ({ running: false, error }));
  }
}

// Takes a call back; what the device made of it is told as its end. Raises ApiError.
export async function cancel(rpcId) {
  const { cancelled, deviceTold, deliveredBefore } = await request("DELETE", `/api/rpc/${rpcId}`);
  if (!cancelled) return "It had ended before.";
  if (!deliveredBefore) return "Cancelled before the device had it.";
  return deviceTold ? "Cancelled, and the device was told." : "Cancelled; the device may do it all the same.";
}

// An event of the feed about a call, with its payloads.
export function heardOf({ rpcId, step, state, ms, ended, reason, reply }) {
  change(rpcId, (old) => {
    const changed = { steps: [...old.steps, { step, state, ms }].slice(-MOST_STEPS) };
    if (ended && old.asked.persistent) Object.assign(changed, { running: false, reply, reason });
    return changed;
  });
}

function change(rpcId, update) {
  if (!made.some((entry) => entry.rpcId === rpcId)) return;
  made = made.map((entry) => (entry.rpcId === rpcId ? { ...entry, ...update(entry) } : entry));
  tell();
}

function tell() {
  for (const listener of listeners) listener();
}
