// A button that copies a text.

import { html, useState } from "../vendor/htm-preact.js";

export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await toClipboard(text);
    setDone(true);
    setTimeout(() => setDone(false), 1_500);
  };
  return html`<button class="copy" onClick=${copy} aria-live="polite">${done ? "Copied" : label}</button>`;
}

async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // over plain HTTP there is no other way
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// Lines to paste, with a button that copies them.
export function Snippet({ title, text }) {
  return html`
    <section class="snippet" aria-label=${title}>
      <div class="row spread"><h3>${title}</h3><${Copy} text=${text} /></div>
      <pre tabindex="0">${text}</pre>
    </section>
  `;
}
