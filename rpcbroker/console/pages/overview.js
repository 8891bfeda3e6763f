// How it goes: devices, calls per second, latency, errors; live.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { call, watch } from "../feed.js";
import { request } from "../session.js";
import { SECONDS, lately, look, percentile } from "../traffic.js";
import { Counts } from "../parts/counts.js";
import { Failed } from "../parts/load.js";
import { Plot } from "../parts/plot.js";
import { duration } from "../parts/time.js";

const BOUNDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000]; // ms

export default function Overview() {
  const [recent, setRecent] = useState(lately());
  useEffect(() => {
    const end = look();
    const timer = setInterval(() => document.hidden || setRecent(lately()), 1_000);
    return () => {
      clearInterval(timer);
      end();
    };
  }, []);
  const { seconds, calls, p50, p99, times, reasons, ended } = recent;
  const shown = { from: seconds[0], to: seconds.at(-1) };
  const last = calls.slice(-10).filter((count) => count !== null);
  const rate = last.length ? last.reduce((sum, count) => sum + count, 0) / last.length : 0;
  const failed = reasons.reduce((sum, [, count]) => sum + count, 0);
  const [middle, high] = [percentile(times, 50), percentile(times, 99)];
  return html`
    <h1>Overview</h1>
    <${DeviceCounts} />
    <div class="grid">
      <section class="card">
        <${Plot} title="Calls per second" say=${`${rate.toFixed(1)} in the last ten seconds`} ...${shown}
          data=${[seconds, calls]} lines=${[{ label: "calls", colour: "accent" }]} />
      </section>
      <section class="card">
        <${Plot} title="Latency of two-way calls, ms" say=${middle === null ? "no calls" : `half within ${duration(middle)}, 99 % within ${duration(high)}`}
          ...${shown} data=${[seconds, p50, p99]}
          lines=${[{ label: "p50", colour: "accent" }, { label: "p99", colour: "warn" }]} />
      </section>
    </div>
    <p class="quiet">
      The last ${SECONDS / 60} minutes, while this page is shown: ${ended} calls ended, ${failed} of them without success${
        middle === null ? "" : `; half of the answers within ${duration(middle)}, 99 % within ${duration(high)}`}.
      ${" "}<a href="#/calls">All calls</a>
    </p>
    <div class="grid">
      <section class="card">
        <h2>Latency</h2>
        <${Counts} label="Two-way calls by latency" rows=${histogram(times)} empty="No two-way call was answered." />
      </section>
      <section class="card">
        <h2>Errors by reason</h2>
        <${Counts} label="Calls without success by reason" rows=${reasons} empty="No call failed." />
      </section>
    </div>
  `;
}

// How many devices there are, and how many of them are there now, kept up to date by events.
function DeviceCounts() {
  const [counts, setCounts] = useState({ callable: "–", connected: "–", all: "–" });
  const [error, setError] = useState(null);
  useEffect(() => {
    let now = null;
    let gone = false;
    const show = () => !gone && now && setCounts(now.counts());
    const begin = async () => {
      try {
        const query = { pageSize: 1 };
        const [snapshot, page] = await Promise.all([
          call("rpcbroker.snapshot"),
          request("GET", "/api/deviceInfos/all", { query }),
        ]);
        now = new Presences(snapshot, page.totalElements);
        setError(null);
        show();
      } catch (failed) {
        setError(failed);
      }
    };
    const heard = (event) => {
      now?.hear(event);
      show();
    };
    const end = watch("rpcbroker.device", heard, { match: "prefix", onGap: begin });
    return () => {
      gone = true;
      end();
    };
  }, []);
  return html`
    ${error && html`<${Failed} error=${error} />`}
    <dl class="numbers">
      <div><dt>Devices callable</dt><dd>${counts.callable}</dd></div>
      <div><dt>Devices connected</dt><dd>${counts.connected}</dd></div>
      <div><dt>Devices in all</dt><dd>${counts.all}</dd></div>
    </dl>
  `;
}

// Which devices are connected and callable: as a snapshot says, and then as events do. A snapshot does not name all of
// very many, but counts them.
class Presences {
  constructor({ seq, counts, devices }, all) {
    this.seq = seq;
    this.all = all;
    this.connected = new Set(devices.filter(({ connected }) => connected).map(({ deviceId }) => deviceId));
    this.callable = new Set(devices.filter(({ callable }) => callable).map(({ deviceId }) => deviceId));
    this.unnamed = { connected: counts.connected - this.connected.size, callable: counts.callable - this.callable.size };
  }

  hear({ seq, deviceId, connected, callable }) {
    if (seq <= this.seq || connected === undefined) return;
    this.connected[connected ? "add" : "delete"](deviceId);
    this.callable[callable ? "add" : "delete"](deviceId);
  }

  counts() {
    return {
      callable: this.unnamed.callable + this.callable.size,
      connected: this.unnamed.connected + this.connected.size,
      all: this.all,
    };
  }
}

// [range, count] of sorted times, from the first range that has any to the last.
function histogram(times) {
  const counts = [...BOUNDS, Infinity].map((bound, at) => {
    const from = at ? BOUNDS[at - 1] : 0;
    const name = bound === Infinity ? `over ${duration(from)}` : `to ${duration(bound)}`;
    return [name, times.filter((ms) => ms > from || (!at && ms === 0)).filter((ms) => ms <= bound).length];
  });
  const first = counts.findIndex(([, count]) => count);
  return first < 0 ? [] : counts.slice(first, counts.findLastIndex(([, count]) => count) + 1);
}
