// LED indicator: a lamp that shows a value of the device, which is first asked whether it is well.

import { html } from "../vendor/htm-preact.js";
import { accepted } from "./answers.js";
import { callDevice, latestValue } from "./device.js";
import { Frame } from "./frame.js";
import { useFollowed } from "./use_value.js";
import { SHOWN, same, shown } from "./value.js";

const AGAIN = 10_000; // ms until a device that is not well is asked again

export function Led({ title, deviceId, settings }) {
  const { performCheck, checkMethod, source, key, onValue, colour, timeout } = settings;
  const read = (raw) => same(raw, onValue) || raw === "true" || (onValue === true && Boolean(raw) && raw !== "false");
  const [model] = useFollowed(deviceId, settings, {
    key,
    read,
    source: performCheck ? "rpc" : source,
    again: AGAIN,
    ask: async (signal) => {
      const status = accepted(await callDevice(deviceId, { method: checkMethod, params: null, timeout }, signal));
      if (!status) throw new Error("Unknown device status!");
      const found = await latestValue(deviceId, key, source, signal);
      return found && { value: read(found.value) };
    },
  });
  const on = shown(model);
  const word = on === undefined ? "unknown" : on ? "on" : "off";
  return html`
    <${Frame} ...${{ title, deviceId, state: SHOWN[model.state], error: model.error }}>
      <span class="led ${word} ${colour}" role="img" aria-label="${title}: ${word}"></span>
      <span class="word" aria-hidden="true">${word}</span>
    <//>
  `;
}
