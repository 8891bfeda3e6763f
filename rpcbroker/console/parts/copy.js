// A button that copies a text.

import { html, useState } from "../vendor/htm-preact.js";
import { toast } from "./toast.js";

export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async ({ currentTarget: button }) => {
    try {
      await toClipboard(text, button);
      setDone(true);
      setTimeout(() => setDone(false), 1_500);
    } catch {
      toast(new Error("The browser does not let this page copy: select the text, and copy it yourself"));
    }
  };
  return html`<button class="copy" onClick=${copy} aria-live="polite">${done ? "Copied" : label}</button>`;
}

// Raises an Error if it could not be copied.
async function toClipboard(text, button) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // over plain HTTP there is no other way
  area.value = text;
  button.after(area); // where the button is, for outside of an open dialog nothing can be selected
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  button.focus();
  if (!copied) throw new Error("not copied");
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
