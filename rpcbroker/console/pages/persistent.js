// Persistent calls of a device that one chooses.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { PersistentCalls } from "../parts/persistent_calls.js";
import { PickDevice } from "../parts/pick_device.js";

export default function Persistent({ params }) {
  const [deviceId, setDeviceId] = useState(params.deviceId ?? "");
  useEffect(() => setDeviceId(params.deviceId ?? ""), [params.deviceId]);
  return html`
    <h1>Persistent calls</h1>
    <div class="filters"><${PickDevice} value=${deviceId} onPick=${setDeviceId} /></div>
    ${deviceId ? html`<${PersistentCalls} key=${deviceId} deviceId=${deviceId} />` : html`<p class="quiet">Choose the device whose calls you want to see.</p>`}
  `;
}
