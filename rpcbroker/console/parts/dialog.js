// Dialogs: the browser's own, which keeps the focus inside, closes by Escape, and gives the focus back.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useId } from "./field.js";

let show = null; // how the host is told

// Modal while it is mounted. `onClose()` when the user closes it.
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    const opened = dialog.current;
    opened.showModal();
    return () => opened.close();
  }, []);
  const cancelled = (event) => {
    if (event.target !== dialog.current) return; // files that were not chosen are cancelled, too
    event.preventDefault();
    onClose();
  };
  return html`
    <dialog ref=${dialog} aria-labelledby=${id} onCancel=${cancelled}>
      <h2 id=${id}>${title}</h2>
      ${children}
    </dialog>
  `;
}

// Asks a question; resolves to whether the answer was yes. `action` is what the button says that does it; `danger`:
// it cannot be undone.
export function confirm({ title, text, action, danger = false }) {
  return new Promise((resolve) => show({ title, text, action, danger, resolve }));
}

// Where `confirm` is shown: once in the page.
export function DialogHost() {
  const [asked, setAsked] = useState(null);
  show = setAsked;
  if (!asked) return null;
  const answer = (value) => {
    setAsked(null);
    asked.resolve(value);
  };
  return html`
    <${Dialog} title=${asked.title} onClose=${() => answer(false)}>
      <p>${asked.text}</p>
      <div class="actions">
        <button onClick=${() => answer(false)} autofocus>Cancel</button>
        <button class=${asked.danger ? "danger" : "primary"} onClick=${() => answer(true)}>${asked.action}</button>
      </div>
    <//>
  `;
}
