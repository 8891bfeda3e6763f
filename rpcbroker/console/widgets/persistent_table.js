// Persistent RPC table: the calls that the broker keeps for a device.

import { html } from "../vendor/htm-preact.js";
import { PersistentCalls } from "../parts/persistent_calls.js";
import { Frame } from "./frame.js";

export function PersistentTable({ title, deviceId, settings }) {
  const { pageSize, allowSend, allowDelete } = settings;
  return html`
    <${Frame} ...${{ title, deviceId }} className="tall">
      <${PersistentCalls} key=${deviceId} ...${{ deviceId, pageSize, maySend: allowSend, mayDelete: allowDelete }} />
    <//>
  `;
}
