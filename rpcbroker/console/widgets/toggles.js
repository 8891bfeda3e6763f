// Widgets that are on or off: switch, slide toggle, round switch, power button.

import { html } from "../vendor/htm-preact.js";
import { Frame } from "./frame.js";
import { useValue } from "./use_value.js";
import { SHOWN, same, shown } from "./value.js";

// Whether what the device says is on: as it stands if it is neither of the two values.
function isOn(raw, { onValue, offValue }) {
  if (same(raw, onValue)) return true;
  if (same(raw, offValue)) return false;
  return raw === "false" ? false : Boolean(raw);
}

function Toggle({ title, deviceId, settings, look, children }) {
  const { onValue, offValue, onLabel, offLabel } = settings;
  const [model, set] = useValue(deviceId, settings, {
    read: (raw) => isOn(raw, settings),
    params: (on) => (on ? onValue : offValue),
  });
  const on = shown(model);
  const word = on === undefined ? "unknown" : on ? onLabel : offLabel;
  return html`
    <${Frame} ...${{ title, deviceId, state: SHOWN[model.state], error: model.error }}>
      <button class="toggle ${look} ${on === undefined ? "unknown" : on ? "on" : "off"}" role="switch"
        aria-checked=${on === true} aria-label="${title}, ${word}" onClick=${() => set(on !== true)}>
        ${children}
      </button>
      <span class="word" aria-hidden="true">${word}</span>
    <//>
  `;
}

const thumb = html`<span class="thumb"></span>`;

export const Switch = (widget) => html`<${Toggle} ...${widget} look="lever">${thumb}<//>`;

export const SlideToggle = (widget) => html`<${Toggle} ...${widget} look="slide">${thumb}<//>`;

export function RoundSwitch(widget) {
  const { onLabel, offLabel } = widget.settings;
  return html`
    <${Toggle} ...${widget} look="round">
      <span class="face"><span>${onLabel}</span><span>${offLabel}</span></span>
    <//>
  `;
}

export const PowerButton = (widget) => html`
  <${Toggle} ...${widget} look="power">
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3v9M6.6 6.8a8 8 0 1 0 10.8 0" /></svg>
  <//>
`;
