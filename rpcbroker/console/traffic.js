// The calls of the last minutes that have ended, second by second, as the feed tells of them while somebody looks. It
// is kept while other pages are shown; the time in which nobody looked is a gap.

import { onSession, session } from "./session.js";
import { watch } from "./feed.js";

export const SECONDS = 300;
const MOST_TIMES = 2_000; // of one second; more than these say nothing new of percentiles
const ENDS = ["successful", "delivered", "failed", "expired", "timeout"];

let bins = new Map(); // by second in which it was heard, for clocks differ: {calls, times, reasons}
let looks = []; // [from, to] in seconds; to null: still

onSession(() => {
  if (!session.signedIn) [bins, looks] = [new Map(), []];
});

const thisSecond = () => Math.floor(Date.now() / 1_000);

// Looks at the traffic until what is returned is called.
export function look() {
  const mine = [thisSecond() + 1, null];
  looks.push(mine);
  const ends = ENDS.map((state) => watch(`rpcbroker.call..${state}`, take, { match: "wildcard" }));
  return () => {
    mine[1] = thisSecond();
    ends.forEach((end) => end());
  };
}

function take(fields) {
  if (!fields.ended) return;
  const second = thisSecond();
  let bin = bins.get(second);
  if (!bin) {
    bins.set(second, (bin = { calls: 0, times: [], reasons: new Map() }));
    for (const old of bins.keys()) if (old < second - SECONDS) bins.delete(old); // nobody may look for days
  }
  bin.calls++;
  if (fields.reason) bin.reasons.set(fields.reason, (bin.reasons.get(fields.reason) ?? 0) + 1);
  else if (!fields.oneway && bin.times.length < MOST_TIMES) bin.times.push(fields.ms);
}

// The last SECONDS, as columns for a plot: `seconds`, and for each `calls`, `p50` and `p99` in ms, null where nobody
// looked or nothing ended; and of all of them together `times` (sorted), `reasons` ([word, count], most first), `ended`.
export function lately() {
  const now = thisSecond();
  const from = now - SECONDS;
  looks = looks.filter(([, to]) => to === null || to >= from);
  const found = { seconds: [], calls: [], p50: [], p99: [], times: [], reasons: [], ended: 0 };
  const reasons = new Map();
  for (let second = from; second < now; second++) {
    const bin = bins.get(second);
    const looked = looks.some(([begun, to]) => begun <= second && (to === null || second < to));
    const times = (bin?.times ?? []).sort((one, other) => one - other);
    found.seconds.push(second);
    found.calls.push(bin?.calls ?? (looked ? 0 : null));
    found.p50.push(percentile(times, 50));
    found.p99.push(percentile(times, 99));
    found.times.push(...times);
    found.ended += bin?.calls ?? 0;
    for (const [reason, count] of bin?.reasons ?? []) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
  }
  found.times.sort((one, other) => one - other);
  found.reasons = [...reasons].sort(([, one], [, other]) => other - one);
  return found;
}

// Of sorted numbers; null of none.
export function percentile(sorted, percent) {
  if (!sorted.length) return null;
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}
