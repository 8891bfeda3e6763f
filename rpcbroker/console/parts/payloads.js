// What calls asked for and were answered, as the feed told it: the broker keeps no params and replies of calls that are
// not persistent. Held in memory until one signs out.

import { useEffect, useState } from "../vendor/htm-preact.js";
import { onSession, session } from "../session.js";

const MOST = 500; // calls; the oldest is forgotten

const kept = new Map();
const listeners = new Set();

// Hold what an event of a call says beside its fields.
export function keepPayloads({ rpcId, params, reply }) {
  if (params === undefined && reply === undefined) return;
  const before = kept.get(rpcId) ?? {};
  kept.set(rpcId, { ...before, ...(params !== undefined && { params }), ...(reply !== undefined && { reply }) });
  if (kept.size > MOST) kept.delete(kept.keys().next().value);
  for (const listener of listeners) listener(kept.get(rpcId));
}

// {params, reply} of a call, also when they come later; undefined is what is not known.
export function usePayloads(rpcId) {
  const [, redraw] = useState(null);
  useEffect(() => {
    listeners.add(redraw);
    return () => listeners.delete(redraw);
  }, []);
  return kept.get(rpcId) ?? {};
}

onSession(() => {
  if (!session.signedIn) kept.clear();
});
