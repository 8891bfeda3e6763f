// RPC button: one call, made again each time it is pressed.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { confirm } from "../parts/dialog.js";
import { accepted } from "./answers.js";
import { callDevice } from "./device.js";
import { Frame } from "./frame.js";

const IDLE = { state: "idle", error: null, reply: undefined };

export function Button({ title, deviceId, settings }) {
  const { label, method, params, oneway, timeout, persistent, pollingInterval } = settings;
  const [shown, setShown] = useState(IDLE);
  const mounted = useRef(true);
  useEffect(() => () => (mounted.current = false), []);
  const press = async () => {
    const question = { title: label, text: `Send ${method} to the device?`, action: "Send" };
    if (settings.confirm && !(await confirm(question))) return;
    setShown({ ...IDLE, state: "pending" });
    let next;
    try {
      const reply = await callDevice(deviceId, { method, params, oneway, timeout, persistent, pollingInterval });
      next = oneway ? { ...IDLE, state: "sent" } : { ...IDLE, state: "confirmed", reply: accepted(reply) };
    } catch (error) {
      next = { ...IDLE, state: "failed", error };
    }
    if (mounted.current) setShown(next);
  };
  return html`
    <${Frame} ...${{ title, deviceId, state: shown.state, error: shown.error }}>
      <button class="primary" disabled=${shown.state === "pending"} onClick=${press}>${label}</button>
      ${shown.reply !== undefined && html`<code class="reply">${JSON.stringify(shown.reply)}</code>`}
    <//>
  `;
}
