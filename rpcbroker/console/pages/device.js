// One device: call it, see whether and why it can be called, and what it says.

import { html } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { CallForm } from "../parts/call_form.js";
import { Credentials } from "../parts/credentials.js";
import { useFollow } from "../parts/follow.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Presence } from "../parts/presence.js";
import { Strip } from "../parts/strip.js";
import { Time } from "../parts/time.js";
import { Values } from "../parts/values.js";

export default function Device({ params }) {
  const device = useLoad((signal) => request("GET", `/api/device/info/${encodeURIComponent(params.id)}`, { signal }), [params.id]);
  return html`<${Loaded} of=${device}>${(found) => html`<${Found} device=${found} />`}<//>`;
}

function Found({ device }) {
  const id = device.id.id;
  return html`
    <h1>${device.name}</h1>
    <p class="quiet row">
      <span>${device.type}</span>
      ${device.label && html`<span>· ${device.label}</span>`}
      ${device.customerTitle && html`<span>· ${device.customerTitle}</span>`}
      <span>· made <${Time} ms=${device.createdTime} /></span>
      <a href="#/board/new?deviceId=${id}">Its board</a>
      <a href="#/calls?deviceId=${id}">Its calls</a>
      <a href="#/persistent?deviceId=${id}">Its persistent calls</a>
    </p>
    <div class="grid">
      <div><${CallForm} device=${device} /></div>
      <div>
        <${Whereabouts} deviceId=${id} />
        <section class="card" aria-label="Credentials"><h2>Credentials</h2><${Credentials} deviceId=${id} /></section>
        <${Values} deviceId=${id} />
      </div>
    </div>
  `;
}

// Whether it can be called, why, and what it nearly got right.
function Whereabouts({ deviceId }) {
  const told = useLoad((signal) => request("GET", `/api/device/${deviceId}/diagnostics`, { signal }), [deviceId]);
  useFollow(`rpcbroker.device.${deviceId}`, told.reload, { match: "prefix" });
  return html`
    <section class="card" aria-label="Presence">
      <h2>Presence</h2>
      <${Loaded} of=${told}>${(found) => html`
        <p>${found.summary}</p>
        <${Presence} of=${found} />
        <dl class="facts">
          <div><dt>Links</dt><dd>${found.links.map(({ protocol, callable }) => `${protocol}${callable ? "" : " (not callable)"}`).join(", ") || "none"}</dd></div>
          <div><dt>Waiting</dt><dd>${waiting(found)}</dd></div>
          <div><dt>Late replies</dt><dd>${found.droppedReplies}</dd></div>
        </dl>
        <${NearMisses} of=${found.nearMisses} />
      `}<//>
      <${Strip} deviceId=${deviceId} />
    </section>
  `;
}

function waiting({ pendingCalls, pendingByState }) {
  if (!pendingCalls) return "no calls";
  return Object.entries(pendingByState)
    .map(([state, count]) => `${count} ${state.toLowerCase()}`)
    .join(", ");
}

function NearMisses({ of }) {
  if (!of.length) return null;
  return html`
    <h3>What it nearly got right</h3>
    <ul class="misses">
      ${of.map((miss) => html`
        <li key=${miss.kind}>
          It ${miss.detail}. <span class="quiet">${miss.count} times, last <${Time} ms=${miss.lastTime} />.</span>
          <br />${miss.hint}
        </li>`)}
    </ul>
  `;
}
