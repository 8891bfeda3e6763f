// The latest telemetry and the attributes of a device, as they come.

import { html, useEffect } from "../vendor/htm-preact.js";
import { watch } from "../feed.js";
import { request } from "../session.js";
import { Loaded, useLoad } from "./load.js";
import { Time } from "./time.js";

const SCOPES = [
  ["CLIENT_SCOPE", "Attributes that the device said"],
  ["SHARED_SCOPE", "Attributes that it is told"],
  ["SERVER_SCOPE", "Attributes of the server"],
];
const TELEMETRY = "telemetry";

export function Values({ deviceId }) {
  const found = useLoad((signal) => load(deviceId, signal), [deviceId]);
  useEffect(
    () =>
      watch(`rpcbroker.values.${deviceId}`, (event) => found.change((old) => old && heard(old, event)), {
        match: "prefix",
        payloads: true,
        onGap: found.reload,
      }),
    [deviceId],
  );
  return html`
    <${Loaded} of=${found}>${(values) => html`
      <section class="card" aria-label="Latest telemetry">
        <h2>Latest telemetry</h2>
        <${Pairs} values=${values[TELEMETRY]} label="Latest telemetry" />
      </section>
      ${SCOPES.map(([scope, title]) => html`
        <section key=${scope} class="card" aria-label=${title}>
          <h2>${title}</h2>
          <${Pairs} values=${values[scope]} label=${title} />
        </section>`)}
    `}<//>
  `;
}

function Pairs({ values, label }) {
  const keys = [...values.keys()].sort();
  if (!keys.length) return html`<p class="quiet">None.</p>`;
  return html`
    <div class="scroll" role="region" aria-label=${label} tabindex="0">
      <table>
        <thead><tr><th scope="col">Key</th><th scope="col">Value</th><th scope="col">Since</th></tr></thead>
        <tbody>
          ${keys.map((key) => html`
            <tr key=${key}>
              <th scope="row" class="name">${key}</th>
              <td><code>${JSON.stringify(values.get(key).value)}</code></td>
              <td><${Time} ms=${values.get(key).ts} /></td>
            </tr>`)}
        </tbody>
      </table>
    </div>
  `;
}

// By scope, or TELEMETRY: a Map from key to {ts, value}.
async function load(deviceId, signal) {
  const base = `/api/plugins/telemetry/DEVICE/${deviceId}/values`;
  const [series, ...scopes] = await Promise.all([
    request("GET", `${base}/timeseries`, { query: { useStrictDataTypes: true }, signal }),
    ...SCOPES.map(([scope]) => request("GET", `${base}/attributes/${scope}`, { signal })),
  ]);
  const found = { [TELEMETRY]: new Map(Object.entries(series).map(([key, [point]]) => [key, point])) };
  SCOPES.forEach(([scope], at) => {
    found[scope] = new Map(scopes[at].map(({ key, value, lastUpdateTs }) => [key, { value, ts: lastUpdateTs }]));
  });
  return found;
}

function heard(values, event) {
  if (event.scope === undefined) return { ...values, [TELEMETRY]: posted(values[TELEMETRY], event.values) };
  const changed = new Map(values[event.scope]);
  for (const [key, value] of Object.entries(event.values)) changed.set(key, { value, ts: event.ts });
  for (const key of event.deleted) changed.delete(key);
  return { ...values, [event.scope]: changed };
}

// Older points come too; the latest one is shown.
function posted(latest, points) {
  const changed = new Map(latest);
  for (const { ts, values } of points) {
    for (const [key, value] of Object.entries(values)) {
      if (!(changed.get(key)?.ts > ts)) changed.set(key, { value, ts });
    }
  }
  return changed;
}
