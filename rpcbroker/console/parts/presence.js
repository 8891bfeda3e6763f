// The three facts of a device, which must not be taken for one another: connected, callable, last seen.

import { html } from "../vendor/htm-preact.js";
import { Time } from "./time.js";

// What a device is, in one word.
export function Fact({ word, value, title }) {
  const said = value === undefined || value === null ? "unknown" : value ? word : `not ${word}`;
  return html`<span class="fact ${value ? "yes" : value === undefined || value === null ? "" : "no"}" title=${title}>${said}</span>`;
}

// `of` is what GET /api/device/{id}/presence says: each fact with its time and its cause.
export function Presence({ of }) {
  return html`
    <dl class="facts">
      <${Row} term="Connected" fact=${of.connected} word="connected" />
      <${Row} term="Callable" fact=${of.callable} word="callable" />
      <div><dt>Last seen</dt><dd><${Time} ms=${of.lastSeen.time} /> <span class="quiet">${of.lastSeen.cause}</span></dd></div>
    </dl>
  `;
}

function Row({ term, fact, word }) {
  return html`
    <div>
      <dt>${term}</dt>
      <dd>
        <${Fact} word=${word} value=${fact.value} />
        ${fact.time > 0 && html`${" "}<span class="quiet">since <${Time} ms=${fact.time} /></span>`}
        ${fact.cause && html`${" "}<span class="quiet">${fact.cause}</span>`}
      </dd>
    </div>
  `;
}
