// What happened to a call, step by step, with how long each step lasted as a bar.

import { html } from "../vendor/htm-preact.js";
import { duration } from "./time.js";

// What a bar stands for: who had the call while the step lasted.
const KINDS = {
  queued: "waiting",
  "put back": "waiting",
  unacknowledged: "waiting",
  stored: "waiting",
  sent: "device",
  acknowledged: "device",
  progress: "device",
  resumed: "device",
  answered: "good",
  "handed over": "good",
  failed: "bad",
  expired: "bad",
  refused: "bad",
  cancelled: "bad",
};
const KEY = [
  ["broker", "with the broker"],
  ["waiting", "waiting"],
  ["device", "with the device"],
];

// `steps` are {step, ms, detail}, as a call's time line has them; `until` is how many ms the call has lasted so far,
// `ended` whether it has ended; `omitted` counts steps before the last one that nobody kept.
export function Bars({ steps, until, ended, omitted = 0 }) {
  const whole = Math.max(until, steps.at(-1)?.ms ?? 0, 1);
  const rows = steps.map((step, at) => {
    const next = steps[at + 1]?.ms ?? (ended ? step.ms : whole);
    const left = (100 * step.ms) / whole;
    return { ...step, at, kind: KINDS[step.step] ?? "broker", lasted: next - step.ms, left, width: (100 * (next - step.ms)) / whole };
  });
  return html`
    <figure class="bars">
      <figcaption class="quiet">
        ${KEY.map(([kind, words]) => html`<span key=${kind} class="bar-key ${kind}">${words}</span>`)}
        <span>${duration(whole)} ${ended ? "in all" : "so far"}</span>
      </figcaption>
      <ol aria-label="Time line">
        ${rows.map((row) => html`
          <li key=${row.at}>
            <span class="step"><b>${row.step}</b>${row.detail && html` <span class="quiet">${row.detail}</span>`}</span>
            <span class="track" aria-hidden="true">
              <span class="bar ${row.kind}" style=${{ left: `${row.left}%`, width: `${row.width}%` }}></span>
            </span>
            <span class="at number">${omitted > 0 && row.at === rows.length - 1 && html`<span class="quiet">after ${omitted} more · </span>`}${millis(row.ms)}${row.lasted > 0 && html`<span class="quiet"> +${millis(row.lasted)}</span>`}</span>
          </li>`)}
      </ol>
    </figure>
  `;
}

const grouped = new Intl.NumberFormat("en");
const millis = (ms) => `${grouped.format(ms)} ms`;
