// One request for many devices: the list, one with its progress, and a new one.

import { html, useState } from "../vendor/htm-preact.js";
import { request, session } from "../session.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Check, Field } from "../parts/field.js";
import { useFollow } from "../parts/follow.js";
import { checkJson, JsonField } from "../parts/json.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { duration, Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";

const PAGE_SIZE = 20;
const FIND_SIZE = 1_000; // devices that are asked for at a time, where they are chosen by name
const STATES = ["SUCCESSFUL", "FAILED", "UNKNOWN", "ABORTED", "RUNNING", "WAITING"];

export default function Bulk({ params }) {
  return params.id ? html`<${One} key=${params.id} id=${params.id} />` : html`<${List} />`;
}

// -- all of them

function List() {
  const [page, setPage] = useState(0);
  const [making, setMaking] = useState(false);
  const loaded = useLoad((signal) => request("GET", "/api/rpc/bulk", { query: { pageSize: PAGE_SIZE, page }, signal }), [page]);
  const heard = (event) => {
    const known = (one) => one.bulkId === event.bulkId;
    loaded.change((old) => old && { ...old, data: old.data.map((one) => (known(one) ? changed(one, event) : one)) });
  };
  useFollow("rpcbroker.bulk.", loaded.reload, { match: "prefix", heard });
  const columns = [
    { title: "Method", render: (bulk) => html`<a href="#/bulk?id=${bulk.bulkId}">${bulk.method || "(no name)"}</a>` },
    { title: "State", render: (bulk) => bulk.state },
    { title: "Progress", render: (bulk) => html`<${Progress} counts=${bulk.counts} label="Progress of ${bulk.method}" />` },
    { title: "Begun", wide: true, render: (bulk) => html`<${Time} ms=${bulk.createdTime} />` },
    { title: "By", wide: true, render: (bulk) => bulk.by },
  ];
  return html`
    <h1>Bulk calls</h1>
    <div class="filters"><button class="primary" onClick=${() => setMaking(true)}>Call many devices…</button></div>
    <${Loaded} of=${loaded}>
      ${(bulks) => html`
        <${Table} label="Bulk calls" columns=${columns} rows=${bulks.data} keyOf=${(bulk) => bulk.bulkId} empty="No devices were called so yet." />
        <${Pager} page=${page} of=${bulks} onPage=${setPage} />
      `}
    <//>
    ${making && html`<${Make} onClose=${() => setMaking(false)} />`}
  `;
}

// A bulk as it is after an event; what came late says nothing.
function changed(bulk, { state, counts, reason, endedTime }) {
  return ended(counts) < ended(bulk.counts) ? bulk : { ...bulk, state, counts, reason, endedTime };
}

const ended = (counts) => counts.successful + counts.failed + counts.unknown + counts.aborted;

// How far it is, as one bar of all states.
function Progress({ counts, label }) {
  const { total } = counts;
  const parts = STATES.map((state) => [state, counts[state.toLowerCase()]]).filter(([, count]) => count > 0);
  const said = parts.map(([state, count]) => `${count} ${state.toLowerCase()}`).join(", ");
  return html`
    <div class="progress" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax=${total} aria-valuenow=${ended(counts)} aria-valuetext=${said || "no devices"}>
      ${parts.map(([state, count]) => html`<span key=${state} class=${state.toLowerCase()} style=${{ width: `${(100 * count) / total}%` }}></span>`)}
    </div>
    <span class="quiet">${ended(counts)} of ${total}</span>
  `;
}

// -- one of them

function One({ id }) {
  const [page, setPage] = useState(0);
  const [state, setState] = useState("");
  const query = { pageSize: PAGE_SIZE, page, state };
  const loaded = useLoad((signal) => request("GET", `/api/rpc/bulk/${encodeURIComponent(id)}`, { query, signal }), [id, page, state]);
  useFollow(`rpcbroker.bulk.${id}`, loaded.reload, { heard: (event) => loaded.change((old) => old && changed(old, event)) });
  const abort = async () => {
    const text = "No more devices are called. Calls that have begun go on to their end.";
    if (!(await confirm({ title: "Stop calling?", text, action: "Abort", danger: true }))) return;
    try {
      await request("DELETE", `/api/rpc/bulk/${encodeURIComponent(id)}`);
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "Device", render: (result) => html`<a href="#/device/${result.deviceId}">${result.deviceName}</a>` },
    { title: "State", render: (result) => html`<span class=${{ SUCCESSFUL: "good", FAILED: "bad", UNKNOWN: "warn" }[result.state] ?? "quiet"}>${result.state}</span>` },
    { title: "Reason", render: (result) => result.reason && html`<code>${result.reason}</code>` },
    { title: "Response", wide: true, render: (result) => result.response !== null && html`<code>${JSON.stringify(result.response)}</code>` },
    { title: "Call", render: (result) => result.rpcId && html`<a href="#/call/${result.rpcId}">time line</a>` },
  ];
  const choose = (next) => {
    setPage(0);
    setState(next);
  };
  return html`
    <${Loaded} of=${loaded}>
      ${(bulk) => html`
        <div class="row spread">
          <h1>${bulk.method || "(no name)"}, ${bulk.counts.total} ${bulk.counts.total === 1 ? "device" : "devices"}</h1>
          ${bulk.state === "RUNNING" && html`<button class="danger" onClick=${abort}>Abort…</button>`}
        </div>
        <section class="card">
          <div class="big"><${Progress} counts=${bulk.counts} label="Progress" /></div>
          <ul class="counts">${STATES.map((each) => html`<li key=${each} class=${each.toLowerCase()}>${bulk.counts[each.toLowerCase()]} ${each.toLowerCase()}</li>`)}</ul>
          <dl class="facts">
            <div><dt>State</dt><dd><span role="status">${bulk.state}${bulk.reason && `: ${bulk.reason}`}</span></dd></div>
            <div><dt>By</dt><dd>${bulk.by}, <${Time} ms=${bulk.createdTime} /></dd></div>
            ${bulk.endedTime && html`<div><dt>Took</dt><dd>${duration(bulk.endedTime - bulk.createdTime)}</dd></div>`}
          </dl>
        </section>
        <div class="filters"><${Field} label="State" type="select" value=${state} onInput=${choose} options=${[["", "any"], ...STATES]} /></div>
        <${Table} label="Devices" columns=${columns} rows=${bulk.results.data} keyOf=${(result) => result.deviceId} />
        <${Pager} page=${page} of=${bulk.results} onPage=${setPage} />
        <p class="below"><a href="#/bulk">All bulk calls</a></p>
      `}
    <//>
  `;
}

// -- a new one

const CHOICES = [
  ["type", "all of a type"],
  ["customer", "all of a customer"],
  ["name", "all whose name contains a text"],
];

function Make({ onClose }) {
  const admin = session.user.authority === "TENANT_ADMIN";
  const [given, setGiven] = useState({ by: "type", type: "", customer: "", name: "", method: "", params: "", timeout: "", rate: "", canary: "", abort: "", oneWay: false });
  const [busy, setBusy] = useState(false);
  const set = (name) => (value) => setGiven({ ...given, [name]: value });
  const params = checkJson(given.params);
  const types = useLoad((signal) => request("GET", "/api/device/types", { signal }), []).value ?? [];
  const customers = useLoad((signal) => (admin ? request("GET", "/api/customers", { query: { pageSize: 1_000, page: 0, sortProperty: "title" }, signal }) : { data: [] }), []).value?.data ?? [];
  const start = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const chosen = await devicesOf(given);
      const { bulkId } = await request("POST", "/api/rpc/bulk", { body: { ...chosen, ...orderOf(given, params.value) } });
      location.hash = `#/bulk?id=${bulkId}`;
    } catch (error) {
      toast(error);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title="Call many devices" onClose=${onClose}>
      <form class="form" onSubmit=${start}>
        <div class="fields">
          <${Field} label="Devices" type="select" value=${given.by} onInput=${set("by")} options=${CHOICES.filter(([name]) => admin || name !== "customer")} />
          ${given.by === "type" && html`<${Field} label="Type" type="select" required value=${given.type} onInput=${set("type")} options=${[["", ""], ...types.map(({ type }) => type)]} />`}
          ${given.by === "customer" && html`<${Field} label="Customer" type="select" required value=${given.customer} onInput=${set("customer")} options=${[["", ""], ...customers.map(({ id, title }) => [id.id, title])]} />`}
          ${given.by === "name" && html`<${Field} label="Text in the name" required value=${given.name} onInput=${set("name")} autocomplete="off" />`}
        </div>
        <${Field} label="Method" required value=${given.method} onInput=${set("method")} autocomplete="off" />
        <${JsonField} label="Params" value=${given.params} onInput=${set("params")} />
        <${Check} label="One-way: a device need not reply" checked=${given.oneWay} onInput=${set("oneWay")} />
        <div class="fields">
          <${Field} label="Timeout, ms" type="number" min="0" value=${given.timeout} onInput=${set("timeout")} />
          <${Field} label="Rate" value=${given.rate} onInput=${set("rate")} placeholder="50:1" hint="50:1 is 50 at once, then 50 a second; empty is no limit" autocomplete="off" />
          <${Field} label="Canaries" type="number" min="0" value=${given.canary} onInput=${set("canary")} hint="so many of the first must succeed before the others are called" />
          <${Field} label="Stop after failures" type="number" min="1" value=${given.abort} onInput=${set("abort")} />
        </div>
        <div class="actions">
          <button type="button" onClick=${onClose}>Cancel</button>
          <button class="primary" disabled=${busy || params.error}>Call them</button>
        </div>
      </form>
    <//>
  `;
}

// What the request says of which devices. Raises ApiError.
async function devicesOf({ by, type, customer, name }) {
  if (by === "type") return { type };
  if (by === "customer") return { customerId: customer };
  const devices = [];
  for (let page = 0, more = true; more; page++) {
    const query = { pageSize: FIND_SIZE, page, textSearch: name, sortProperty: "name" };
    const found = await request("GET", "/api/deviceInfos/all", { query });
    devices.push(...found.data.filter((device) => device.name.toLowerCase().includes(name.toLowerCase())).map((device) => device.id.id));
    more = found.hasNext;
  }
  if (devices.length === 0) throw new Error(`No device's name contains ${name}.`);
  return { devices };
}

function orderOf({ method, timeout, oneWay, rate, canary, abort }, params) {
  return {
    request: { method, params, oneway: oneWay, ...(timeout && { timeout: Number(timeout) }) },
    ...(rate && { rate }),
    ...(canary && { canary: Number(canary) }),
    ...(abort && { abortAfterFailures: Number(abort) }),
  };
}
