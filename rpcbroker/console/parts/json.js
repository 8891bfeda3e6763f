// JSON: typed, checked while it is typed, and shown.

import { html } from "../vendor/htm-preact.js";
import { Field } from "./field.js";

// {value}, or {error: what is wrong with the text}. An empty text is null.
export function checkJson(text) {
  if (text.trim() === "") return { value: null };
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { error: `No JSON: ${error.message.replace(/^JSON\.parse: /, "")}` };
  }
}

// A text area for JSON; `onInput(text)`.
export function JsonField({ label, value, onInput, rows = 4, hint, ...rest }) {
  return html`
    <${Field} label=${label} type="textarea" rows=${rows} class="code" spellcheck=${false} autocapitalize="off"
      value=${value} onInput=${onInput} error=${checkJson(value).error} hint=${hint} ...${rest} />
  `;
}

// A value, laid out for people; `undefined` is shown as nothing.
export function Json({ value, label = "JSON" }) {
  if (value === undefined) return null;
  return html`<pre class="json" tabindex="0" role="region" aria-label=${label}>${JSON.stringify(value, null, 2)}</pre>`;
}
