// What all widgets have around them: a name, how true it is what they show, and what went wrong.

import { html } from "../vendor/htm-preact.js";
import { useId } from "../parts/field.js";
import { telling } from "./answers.js";
import { useCallable } from "./device.js";

const WORDS = {
  unknown: "Unknown",
  pending: "Pending",
  sent: "Sent, not confirmed",
  confirmed: "Confirmed",
  failed: "Failed",
  idle: "",
};

// A widget. `state` is one of SHOWN in value.js, or idle; `error` what went wrong last, null if nothing did.
export function Frame({ title, deviceId, state = "idle", error = null, children, className = "" }) {
  const id = useId();
  const callable = useCallable(deviceId);
  const told = error && telling(error);
  return html`
    <section class="widget ${className}" aria-labelledby=${id} data-state=${state}
      data-callable=${callable === undefined ? "unknown" : callable}>
      <header>
        <h3 id=${id} title=${title}>${title}</h3>
        ${deviceId && callable === false && html`<span class="offline">Offline</span>`}
      </header>
      ${deviceId ? html`<div class="body">${children}</div>` : html`<p class="quiet">Target device is not set!</p>`}
      <footer aria-live="polite">
        ${WORDS[state] && html`<span class="state ${state}">${WORDS[state]}</span>`}
        ${told && html`<span class="bad" title=${told.hint ?? undefined}>${told.text}${told.hint && html`<small class="quiet"> ${told.hint}</small>`}</span>`}
      </footer>
    </section>
  `;
}
