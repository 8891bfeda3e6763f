// Calls: the newest first, as they happen.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { watch } from "../feed.js";
import { request } from "../session.js";
import { Check, Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { keepPayloads } from "../parts/payloads.js";
import { PickDevice } from "../parts/pick_device.js";
import { State } from "../parts/reasons.js";
import { Table } from "../parts/table.js";
import { duration, exact, timeOfDay } from "../parts/time.js";

const STATES = ["QUEUED", "SENT", "DELIVERED", "SUCCESSFUL", "TIMEOUT", "EXPIRED", "FAILED", "DELETED"];
const SIZES = [100, 300, 1_000]; // how many are shown: first, and when more are asked for
const FLUSH = 200; // ms for which what happens is gathered before it is drawn
const TYPING = 300; // ms without typing until it is looked for

const columns = [
  { title: "Time", render: (call) => html`<time datetime=${new Date(call.createdTime).toISOString()} title=${exact(call.createdTime)}>${timeOfDay(call.createdTime)}</time>` },
  { title: "State", render: (call) => html`<${State} ...${call} />` },
  { title: "Call", render: (call) => html`<a href="#/call/${call.rpcId}">${call.method || "(no name)"}</a>` },
  { title: "Device", render: (call) => html`<a href="#/device/${call.deviceId}">${call.deviceName ?? "gone"}</a>` },
  { title: "Kind", wide: true, render: (call) => `${call.oneWay ? "one-way" : "two-way"}${call.persistent ? ", persistent" : ""}` },
  { title: "Reason", wide: true, render: (call) => call.reason && html`<code>${call.reason}</code>` },
  { title: "Took", number: true, render: (call) => (call.endedTime === null ? "" : duration(Math.max(0, call.endedTime - call.createdTime))) },
];

export default function Calls({ params }) {
  const [filter, setFilter] = useState({});
  const [size, setSize] = useState(SIZES[0]);
  const [still, setStill] = useState(null); // the rows as they were when the table was held
  const { deviceId = "", method = "", state = "" } = filter;
  const asked = useDelayed(method, TYPING);
  useEffect(() => setFilter({ deviceId: params.deviceId, method: params.method, state: params.state }), [params.deviceId, params.method, params.state]);

  const loaded = useLoad(
    (signal) => request("GET", "/api/rpc", { query: { pageSize: size, page: 0, deviceId, method: asked, state }, signal }),
    [size, deviceId, asked, state],
  );
  const happened = useHappened(deviceId, loaded.reload);
  const rows = merged(loaded.value?.data ?? [], happened)
    .filter((call) => (!deviceId || call.deviceId === deviceId) && (!asked || call.method === asked) && (!state || call.state === state))
    .slice(0, size);

  const change = (name) => (value) => setFilter({ ...filter, [name]: value });
  return html`
    <h1>Calls</h1>
    <div class="filters">
      <${PickDevice} value=${deviceId} onPick=${change("deviceId")} />
      <${Field} label="Method" value=${method} onInput=${change("method")} autocomplete="off" />
      <${Field} label="State" type="select" value=${state} onInput=${change("state")} options=${[["", "any"], ...STATES]} />
      <${Check} label="Live" checked=${still === null} onInput=${(live) => setStill(live ? null : rows)} />
    </div>
    <${Loaded} of=${loaded}>
      ${(page) => html`
        <${Table} label="Calls" columns=${columns} rows=${still ?? rows} keyOf=${(call) => call.rpcId} empty="No calls yet." />
        ${page.hasNext && size < SIZES.at(-1) && html`<button onClick=${() => setSize(SIZES[SIZES.indexOf(size) + 1])}>Show more</button>`}
      `}
    <//>
  `;
}

// Calls as events tell of them, by their ids; those of one device, or all for "".
function useHappened(deviceId, reload) {
  const [, redraw] = useState(0);
  const calls = useRef(new Map());
  useEffect(() => {
    let timer = null;
    calls.current = new Map();
    const flush = () => {
      timer = null;
      redraw((count) => count + 1);
    };
    const end = watch(`rpcbroker.call.${deviceId && `${deviceId}.`}`, heard, { match: "prefix", payloads: true, onGap });
    function heard(fields) {
      keepPayloads(fields);
      const known = calls.current;
      known.set(fields.rpcId, called(fields, known.get(fields.rpcId)));
      if (known.size > SIZES.at(-1)) known.delete(known.keys().next().value);
      timer ??= setTimeout(flush, FLUSH);
    }
    function onGap() {
      calls.current = new Map();
      reload();
    }
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [deviceId, reload]);
  return calls.current;
}

// An event as a row; `before` is what the row was.
function called(event, before) {
  const { deviceId, deviceName, rpcId, method, oneway, persistent, state, reason = null, reply } = event;
  const deviceError = typeof reply === "object" && reply !== null && "error" in reply;
  return {
    ...{ deviceId, deviceName, rpcId, method, oneWay: oneway, persistent, state, reason, deviceError },
    createdTime: before?.createdTime ?? event.ts - event.ms,
    endedTime: event.ended ? event.ts : (before?.endedTime ?? null),
  };
}

// The newest first. What has ended stays so; else what was heard is newer than what was asked for.
function merged(asked, happened) {
  const rows = new Map(happened);
  for (const call of asked) {
    const heard = rows.get(call.rpcId);
    if (!heard || (heard.endedTime === null && call.endedTime !== null)) rows.set(call.rpcId, call);
    else rows.set(call.rpcId, { ...heard, createdTime: call.createdTime });
  }
  return [...rows.values()].sort((one, other) => other.createdTime - one.createdTime);
}

// A value, when it has not changed for so many ms.
function useDelayed(value, ms) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
