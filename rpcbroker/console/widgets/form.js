// The form of a widget's settings, made from their table.

import { html, useState } from "../vendor/htm-preact.js";
import { Dialog } from "../parts/dialog.js";
import { Check, Field } from "../parts/field.js";
import { PickDevice } from "../parts/pick_device.js";
import { settled, typedSettings, written } from "./settings.js";

const MAX_TITLE = 255;

// `box` is the widget; `onDone(box)` with what was changed. `own`: the board is of one device, which is used if none is
// chosen here.
export function SettingsForm({ kind, box, own, onDone, onClose }) {
  const [title, setTitle] = useState(box.title);
  const [deviceId, setDeviceId] = useState(box.deviceId);
  const [typed, setTyped] = useState(() => written(kind.settings, settled(kind.settings, box.settings)));
  const [errors, setErrors] = useState({});
  const change = (name) => (value) => setTyped((old) => ({ ...old, [name]: value }));
  const done = (event) => {
    event.preventDefault();
    const { settings, errors: found } = typedSettings(kind.settings, typed);
    setErrors(found);
    if (!Object.keys(found).length) onDone({ ...box, title: title.trim() || kind.title, deviceId, settings });
  };
  return html`
    <${Dialog} title="${kind.title}: settings" onClose=${onClose}>
      <form class="form" onSubmit=${done} novalidate>
        <${Field} label="Title" value=${title} onInput=${setTitle} maxlength=${MAX_TITLE} />
        <${PickDevice} label=${own ? "Device, if not the board's" : "Device"} value=${deviceId ?? ""}
          onPick=${(id) => setDeviceId(id || null)} />
        ${kind.settings.map((field) => html`
          <${Setting} key=${field.name} field=${field} value=${typed[field.name]} error=${errors[field.name]}
            onInput=${change(field.name)} />`)}
        ${Object.keys(errors).length > 0 && html`<p class="bad" role="alert">Some settings are not right yet.</p>`}
        <div class="row"><button class="primary">Apply</button><button type="button" onClick=${onClose}>Cancel</button></div>
      </form>
    <//>
  `;
}

function Setting({ field, value, error, onInput }) {
  const { label, hint, kind } = field;
  if (kind === "truth") {
    return html`
      <div class="field">
        <${Check} label=${label} checked=${value} onInput=${onInput} />
        ${hint && html`<span class="quiet">${hint}</span>`}
      </div>`;
  }
  const options = kind === "choice" ? field.choices : undefined;
  const type = { choice: "select", json: "text", number: "text" }[kind] ?? "text";
  const more = { number: { inputmode: "decimal" }, json: { class: "code", spellcheck: "false" } }[kind] ?? {};
  return html`<${Field} ...${{ label, hint, value, error, onInput, type, options, ...more }} />`;
}
