// Dialogs: the browser's own, which keeps the focus inside and closes by Escape; the focus is given back.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { onSession, session } from "../session.js";
import { useId } from "./field.js";

let show = null; // how the host is told

// Modal while it is mounted. `onClose()` when the user closes it.
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    const opened = dialog.current;
    const before = document.activeElement;
    opened.showModal();
    return () => {
      opened.close(); // which gives the focus back only while it is in the document
      (before.isConnected ? before : document.getElementById("main"))?.focus();
    };
  }, []);
  const cancelled = (event) => {
    if (event.target !== dialog.current) return; // files that were not chosen are cancelled, too
    event.preventDefault();
    onClose();
  };
  const closed = (event) => event.target === dialog.current && onClose(); // Escape again, and browsers do not ask
  return html`
    <dialog ref=${dialog} aria-labelledby=${id} onCancel=${cancelled} onClose=${closed}>
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
  const answer = (value) => {
    setAsked(null);
    asked?.resolve(value);
  };
  show = setAsked;
  // What one user was asked, another does not answer.
  useLayoutEffect(() => onSession(() => session.signedIn || answer(false)), [asked]);
  if (!asked) return null;
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
