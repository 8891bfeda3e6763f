// A label with its input, a hint, and what is wrong with it.

import { html, useRef } from "../vendor/htm-preact.js";

let count = 0;

// An id that no other element of the page has.
export function useId() {
  const id = useRef(null);
  return (id.current ??= `field-${++count}`);
}

// `onInput(value)` hears of each change; `type` is that of an input, or "textarea", or "select" with `options`, a list
// of [value, text] or of texts. All else goes to the element.
export function Field({ label, type = "text", value, onInput, hint, error, options, ...rest }) {
  const id = useId();
  const told = [error && `${id}-error`, hint && `${id}-hint`].filter(Boolean).join(" ");
  const shared = {
    id,
    value,
    onInput: (event) => onInput?.(event.target.value),
    "aria-invalid": error ? "true" : undefined,
    "aria-describedby": told || undefined,
    ...rest,
  };
  let input;
  if (type === "textarea") input = html`<textarea ...${shared}></textarea>`;
  else if (type === "select") input = html`<select ...${shared}>${(options ?? []).map(option)}</select>`;
  else input = html`<input type=${type} ...${shared} />`;
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      ${input}
      ${error && html`<span id="${id}-error" class="bad">${error}</span>`}
      ${hint && html`<span id="${id}-hint" class="quiet">${hint}</span>`}
    </div>
  `;
}

// A box to tick; `onInput(checked)`.
export function Check({ label, checked, onInput, ...rest }) {
  return html`
    <label class="check">
      <input type="checkbox" checked=${checked} onChange=${(event) => onInput(event.target.checked)} ...${rest} />
      ${" "}${label}
    </label>
  `;
}

function option(given) {
  const [value, text] = Array.isArray(given) ? given : [given, given];
  return html`<option key=${value} value=${value}>${text}</option>`;
}
