// Persistent calls of one device, as ThingsBoard's table of them has them; it follows what happens.

import { html, useState } from "../vendor/htm-preact.js";
import { request, session } from "../session.js";
import { Copy } from "./copy.js";
import { confirm, Dialog } from "./dialog.js";
import { Check, Field } from "./field.js";
import { useFollow } from "./follow.js";
import { checkJson, Json, JsonField } from "./json.js";
import { Loaded, useLoad } from "./load.js";
import { State } from "./reasons.js";
import { Pager, Table } from "./table.js";
import { Time } from "./time.js";
import { toast } from "./toast.js";

const STATES = ["QUEUED", "SENT", "DELIVERED", "SUCCESSFUL", "TIMEOUT", "EXPIRED", "FAILED"];

// `maySend` and `mayDelete`: whether calls can be made, and deleted, here; to delete them one must be an administrator.
export function PersistentCalls({ deviceId, pageSize = 20, maySend = true, mayDelete = true }) {
  const [state, setState] = useState("");
  const [page, setPage] = useState(0);
  const [sort, setSort] = useState({ property: "createdTime", order: "DESC" });
  const [shown, setShown] = useState(null);
  const [making, setMaking] = useState(false);
  const query = { pageSize, page, rpcStatus: state, sortProperty: sort.property, sortOrder: sort.order };
  const loaded = useLoad(
    (signal) => request("GET", `/api/rpc/persistent/device/${encodeURIComponent(deviceId)}`, { query, signal }),
    [deviceId, pageSize, state, page, sort],
  );
  useFollow(`rpcbroker.call.${deviceId}.`, loaded.reload, { match: "prefix", heard: (fields) => fields.persistent });

  const remove = async (call) => {
    const text = `The call ${call.request.body.method} is forgotten, and if the device does not have it yet, it never gets it.`;
    if (!(await confirm({ title: "Delete this call?", text, action: "Delete", danger: true }))) return;
    try {
      await request("DELETE", `/api/rpc/persistent/${call.id.id}`);
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "RPC id", wide: true, render: (call) => html`<code>${call.id.id}</code>` },
    { title: "Message type", wide: true, render: (call) => (call.request.oneway ? "One-way" : "Two-way") },
    { title: "Status", render: (call) => html`<${State} state=${call.status} />` },
    { title: "Method", render: (call) => html`<a href="#/call/${call.id.id}">${call.request.body.method || "(no name)"}</a>` },
    { title: "Created", wide: true, sort: "createdTime", render: (call) => html`<${Time} ms=${call.createdTime} />` },
    { title: "Expires", wide: true, sort: "expirationTime", render: (call) => html`<${Time} ms=${call.expirationTime} />` },
    {
      title: "Actions",
      render: (call) => html`
        <div class="row">
          <button onClick=${() => setShown(call)}>Details</button>
          ${mayDelete && session.user.authority === "TENANT_ADMIN" && html`<button class="danger" onClick=${() => remove(call)}>Delete</button>`}
        </div>`,
    },
  ];
  const choose = (next) => {
    setPage(0);
    setState(next);
  };
  return html`
    <div class="filters">
      <${Field} label="Status" type="select" value=${state} onInput=${choose} options=${[["", "any"], ...STATES]} />
      ${maySend && html`<button class="primary" onClick=${() => setMaking(true)}>New persistent call…</button>`}
    </div>
    <${Loaded} of=${loaded}>
      ${(calls) => html`
        <${Table} label="Persistent calls" columns=${columns} rows=${calls.data} keyOf=${(call) => call.id.id}
          sort=${sort} onSort=${setSort} empty="There are none." />
        <${Pager} page=${page} of=${calls} onPage=${setPage} />
      `}
    <//>
    ${shown && html`<${Details} call=${shown} onClose=${() => setShown(null)} />`}
    ${making && html`<${Make} deviceId=${deviceId} onClose=${() => setMaking(false)} onMade=${loaded.reload} />`}
  `;
}

function Details({ call, onClose }) {
  return html`
    <${Dialog} title=${call.request.body.method || "(no name)"} onClose=${onClose}>
      <p><code>${call.id.id}</code> <${Copy} text=${call.id.id} label="Copy the id" /></p>
      <h3>Params</h3><${Json} value=${JSON.parse(call.request.body.params)} label="Params" />
      <h3>Response</h3><${Json} value=${call.response} label="Response" />
      <h3>Additional info</h3><${Json} value=${call.additionalInfo} label="Additional info" />
      <p class="below">Retries: ${call.request.retries ?? "as the broker is set"}</p>
      <div class="actions">
        <a class="button" href="#/call/${call.id.id}">Time line</a>
        <button class="primary" onClick=${onClose}>Close</button>
      </div>
    <//>
  `;
}

function Make({ deviceId, onClose, onMade }) {
  const [given, setGiven] = useState({ method: "", params: "", retries: "", timeout: "3600", info: "", oneWay: false });
  const [busy, setBusy] = useState(false);
  const set = (name) => (value) => setGiven({ ...given, [name]: value });
  const params = checkJson(given.params);
  const info = checkJson(given.info);
  const make = async (event) => {
    event.preventDefault();
    setBusy(true);
    const body = {
      method: given.method,
      params: params.value,
      persistent: true,
      ...(given.timeout !== "" && { timeout: Number(given.timeout) * 1_000 }),
      ...(given.retries !== "" && { retries: Number(given.retries) }),
      ...(given.info.trim() && { additionalInfo: info.value }),
    };
    try {
      await request("POST", `/api/rpc/${given.oneWay ? "oneway" : "twoway"}/${encodeURIComponent(deviceId)}`, { body });
      toast("The call is kept until it ends.");
      onMade();
      onClose();
    } catch (error) {
      toast(error);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title="New persistent call" onClose=${onClose}>
      <form class="form" onSubmit=${make}>
        <${Field} label="Method" required value=${given.method} onInput=${set("method")} autocomplete="off" />
        <${JsonField} label="Params" value=${given.params} onInput=${set("params")} />
        <${Check} label="One-way: the device need not reply" checked=${given.oneWay} onInput=${set("oneWay")} />
        <div class="fields">
          <${Field} label="Timeout, s" type="number" min="1" value=${given.timeout} onInput=${set("timeout")}
            hint="So long it waits for the device, and for its reply; then it expires. Empty is as the broker is set." />
          <${Field} label="Retries" type="number" min="0" value=${given.retries} onInput=${set("retries")}
            hint="Deliveries without acknowledgement before it fails; empty is as the broker is set." />
        </div>
        <${JsonField} label="Additional info" rows="2" value=${given.info} onInput=${set("info")} hint="Any JSON for yourself; the device does not get it." />
        <div class="actions">
          <button type="button" onClick=${onClose}>Cancel</button>
          <button class="primary" disabled=${busy || params.error || info.error}>Call</button>
        </div>
      </form>
    <//>
  `;
}
