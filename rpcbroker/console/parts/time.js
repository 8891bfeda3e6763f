// Times: as people say them, and exactly.

import { html, useEffect, useState } from "../vendor/htm-preact.js";

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
];
const TICK = 5_000; // ms

const exactly = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const tickers = new Set();
setInterval(() => tickers.forEach((tick) => tick(Date.now())), TICK);

// Now, in epoch ms, anew every few seconds.
export function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    tickers.add(setNow);
    return () => tickers.delete(setNow);
  }, []);
  return now;
}

// "3 min ago"
export function ago(ms, now = Date.now()) {
  const since = Math.abs(now - ms);
  if (since < 2_000) return "just now";
  const said = since < 60_000 ? `${Math.floor(since / 1_000)} s` : duration(since);
  return ms > now ? `in ${said}` : `${said} ago`;
}

// "2.5 ms", "1.2 s", "3 min", "5 h": ms as the largest unit that it fills.
export function duration(ms) {
  if (ms < 1_000) return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  const [unit, size] = UNITS.find(([, each]) => ms >= each);
  return `${Math.floor(ms / size)} ${unit}`;
}

// Date and time of day.
export const exact = (ms) => exactly.format(ms);

// Time of day, to the second.
export const timeOfDay = (ms) => clock.format(ms);

// Relative, with the exact time beside it when one points there. `ms` 0 or null: `never`.
export function Time({ ms, never = "never" }) {
  const now = useNow();
  if (!ms) return html`<span class="quiet">${never}</span>`;
  return html`<time datetime=${new Date(ms).toISOString()} title=${exact(ms)}>${ago(ms, now)}</time>`;
}
