// What is shown is asked for again when something happens to it.

import { useEffect, useRef } from "../vendor/htm-preact.js";
import { watch } from "../feed.js";

const GATHER = 300; // ms

// Calls `reload()` a moment after events of `topic`, once for many, and when some may have been missed. `heard(fields)`
// is told of each, and says false of those that change nothing. A `topic` of null is none.
export function useFollow(topic, reload, { match = "exact", payloads = false, heard = () => true } = {}) {
  const now = useRef(heard);
  now.current = heard;
  useEffect(() => {
    if (topic === null) return;
    let timer = null;
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = null;
        reload();
      }, GATHER);
    };
    const end = watch(topic, (fields) => now.current(fields) !== false && soon(), { match, payloads, onGap: soon });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [topic, match, payloads, reload]);
}
