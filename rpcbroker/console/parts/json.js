// JSON: typed, checked while it is typed, and shown.

import { html } from "../vendor/htm-preact.js";
import { Field } from "./field.js";

// {value}, or {error: what is wrong with the text}. An empty text is null.
export function checkJson(text) {
  if (text.trim() === "") return { value: null };
  try {
    return { value: JSON.parse(text, exactly) };
  } catch (error) {
    if (error instanceof RangeError) return { error: error.message };
    return { error: `No JSON: ${error.message.replace(/^JSON\.parse: /, "")}` };
  }
}

// A browser would send another number than was typed, and nobody would notice.
function exactly(_, value, context) {
  const large = typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "");
  if (large) throw new RangeError(`${context.source} has more digits than a browser can send: write it as a string`);
  return value;
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
