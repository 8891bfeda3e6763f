// What a page shows, asked for and kept up to date.

import { html, useCallback, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { onFeedState } from "../feed.js";

// {value, error, reload}: what `load(signal)` resolves to, asked for again when `inputs` change, when the feed is back
// after it was lost, and by `reload()`. Until the new value is there the old one is shown.
export function useLoad(load, inputs) {
  const [state, setState] = useState({ value: undefined, error: null });
  const running = useRef(null);
  const reload = useCallback(async () => {
    running.current?.abort();
    const mine = (running.current = new AbortController());
    try {
      const value = await load(mine.signal);
      if (!mine.signal.aborted) setState({ value, error: null });
    } catch (error) {
      if (!mine.signal.aborted) setState((old) => ({ value: old.value, error }));
    }
  }, inputs);
  useEffect(() => {
    reload();
    const end = onFeedState((state) => state === "live" && reload());
    return () => {
      end();
      running.current?.abort();
    };
  }, [reload]);
  const change = useCallback((update) => setState((old) => {
    const value = update(old.value);
    return value === old.value ? old : { ...old, value };
  }), []);
  return { ...state, reload, change };
}

// The value when there is one, else that it is loading, or why not.
export function Loaded({ of, children }) {
  return html`
    ${of.error && html`<${Failed} error=${of.error} />`}
    ${of.value === undefined ? !of.error && html`<p class="quiet" role="status">Loading…</p>` : children(of.value)}
  `;
}

// An error, with what to do about it.
export function Failed({ error }) {
  return html`
    <p class="bad" role="alert">
      ${error.message}${error.reason && html` <code>${error.reason}</code>`}
      ${error.hint && html`<br /><span class="quiet">${error.hint}</span>`}
    </p>
  `;
}
