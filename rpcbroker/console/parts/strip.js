// How the presence of a device went lately: a strip of the last day, and the same as a list.

import { html, useEffect } from "../vendor/htm-preact.js";
import { watch } from "../feed.js";
import { request } from "../session.js";
import { Loaded, useLoad } from "./load.js";
import { Time, duration, exact, useNow } from "./time.js";

const DAY = 86_400_000; // ms
const WRITTEN = 1_500; // ms after which a change is in the store for sure
const MOST_LISTED = 20;
const [WIDE, HIGH, LEAST] = [1_000, 20, 3]; // of the drawing, which is stretched; how wide the shortest time is
const WORDS = { callable: "callable", connected: "connected, not callable", away: "not connected" };

export function Strip({ deviceId }) {
  const now = useNow();
  const changes = useLoad(async (signal) => {
    const query = { since: Date.now() - DAY };
    return changesOf(await request("GET", `/api/device/${deviceId}/presence`, { query, signal }));
  }, [deviceId]);
  useEffect(() => {
    let timer = null;
    const later = () => {
      clearTimeout(timer);
      timer = setTimeout(changes.reload, WRITTEN);
    };
    const ends = ["connected", "disconnected", "callable", "not_callable"].map((word) =>
      watch(`rpcbroker.device.${deviceId}.${word}`, later),
    );
    return () => {
      clearTimeout(timer);
      ends.forEach((end) => end());
    };
  }, [deviceId]);
  return html`<${Loaded} of=${changes}>${(found) => html`<${Drawn} changes=${found} now=${now} />`}<//>`;
}

// The last change may not be in the store yet; what holds now is.
function changesOf({ changes, connected, callable }) {
  const latest = (callable.time ?? 0) > (connected.time ?? 0) ? callable : connected;
  if (!latest.time || changes.some((change) => change.time >= latest.time)) return changes;
  return [...changes, { time: latest.time, connected: connected.value, callable: callable.value, cause: latest.cause }];
}

function Drawn({ changes, now }) {
  const from = now - DAY;
  const spans = changes
    .map((change, at) => ({
      state: change.callable ? "callable" : change.connected ? "connected" : "away",
      from: Math.max(change.time, from),
      to: Math.min(changes[at + 1]?.time ?? now, now),
    }))
    .filter((span) => span.to > span.from);
  const at = (time) => (WIDE * (time - from)) / DAY;
  const said = Object.keys(WORDS).map((state) => {
    const sum = spans.filter((span) => span.state === state).reduce((ms, span) => ms + span.to - span.from, 0);
    return sum && `${WORDS[state]} for ${duration(sum)}`;
  });
  const label = said.filter(Boolean).join(", ") || "nothing is known";
  return html`
    <figure class="strip">
      <figcaption class="row spread quiet"><span>The last day</span><span>${label}</span></figcaption>
      <svg viewBox=${`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label=${`The last day: ${label}`}>
        ${spans.map((span) => html`
          <rect key=${span.from} class=${span.state} x=${Math.min(at(span.from), WIDE - LEAST)} width=${Math.max(LEAST, at(span.to) - at(span.from))}
            y=${{ callable: 0, connected: HIGH / 2, away: HIGH - 2 }[span.state]} height=${HIGH}>
            <title>${`${WORDS[span.state]} ${exact(span.from)} – ${exact(span.to)}`}</title>
          </rect>`)}
      </svg>
      ${changes.length > 0 && html`
        <details>
          <summary>Changes</summary>
          <ul class="changes">
            ${changes.slice(-MOST_LISTED).reverse().map((change) => html`
              <li key=${change.time}>
                <${Time} ms=${change.time} /> ${change.callable ? "callable" : change.connected ? WORDS.connected : WORDS.away}
                ${change.cause && html` <span class="quiet">${change.cause}</span>`}
              </li>`)}
          </ul>
        </details>`}
    </figure>
  `;
}
