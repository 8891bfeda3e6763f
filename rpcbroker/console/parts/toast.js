// Short notices that go by themselves, and are read out.

import { html, useState } from "../vendor/htm-preact.js";

const LASTS = 6_000; // ms
const MOST = 4;

let toasts = [];
let count = 0;
let redraw = () => {};

// `kind` is "good" or "bad"; an error may be given as it is.
export function toast(what, kind = what instanceof Error ? "bad" : "good") {
  const text = what instanceof Error ? [what.message, what.hint].filter(Boolean).join(". ") : what;
  const shown = { text, kind, key: ++count };
  toasts = [...toasts, shown].slice(-MOST);
  redraw(count);
  setTimeout(() => dismiss(shown), kind === "bad" ? 2 * LASTS : LASTS);
}

function dismiss(shown) {
  toasts = toasts.filter((each) => each !== shown);
  redraw(++count);
}

// Where they are shown: once in the page.
export function Toasts() {
  [, redraw] = useState(0);
  return html`
    <div class="toasts" role="log" aria-live="polite" aria-label="Notices">
      ${toasts.map((shown) => html`
        <div key=${shown.key} class="toast ${shown.kind}">
          <span>${shown.text}</span>
          <button aria-label="Dismiss" onClick=${() => dismiss(shown)}>×</button>
        </div>`)}
    </div>
  `;
}
