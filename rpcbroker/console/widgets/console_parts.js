// What terminals are made of: lines that come, and a line that is typed.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";

const MOST = 100; // commands that are remembered

// `lines` are {stream, text}. It stays at its end, unless somebody has scrolled up.
export function Log({ lines, label }) {
  const log = useRef(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current) log.current.scrollTop = log.current.scrollHeight;
  }, [lines]);
  const scrolled = ({ target }) => {
    atEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < 8;
  };
  return html`
    <div class="log" role="log" tabindex="0" aria-label=${label} ref=${log} onScroll=${scrolled}>
      ${lines.map(({ stream, text }, index) => html`<pre key=${index} class=${stream}>${text}</pre>`)}
    </div>
  `;
}

// Enter calls `onRun(line)`; the arrows bring back what was typed before; Ctrl-C, where nothing is selected, calls
// `onBreak()`.
export function CommandLine({ prompt, label, disabled, onRun, onBreak }) {
  const [line, setLine] = useState("");
  const history = useRef([]);
  const at = useRef(0); // of the history; its length: a new line
  const key = (event) => {
    const { selectionStart, selectionEnd } = event.target;
    if (event.key === "c" && event.ctrlKey && selectionStart === selectionEnd && onBreak) {
      event.preventDefault();
      onBreak();
    }
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    at.current = Math.min(Math.max(at.current + step, 0), history.current.length);
    setLine(history.current[at.current] ?? "");
  };
  const run = (event) => {
    event.preventDefault();
    if (disabled) return;
    if (line.trim()) history.current = [...history.current.filter((each) => each !== line), line].slice(-MOST);
    at.current = history.current.length;
    setLine("");
    onRun(line);
  };
  return html`
    <form class="command" onSubmit=${run}>
      <span class="prompt" aria-hidden="true">${prompt}</span>
      <input aria-label=${label} value=${line} readonly=${disabled} autocomplete="off" autocapitalize="off"
        spellcheck="false" maxlength="10000" onInput=${(event) => setLine(event.target.value)} onKeyDown=${key} />
    </form>
  `;
}
