// Persistent RPC table: the calls that the broker keeps for a device. It follows what is told of them.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { watch } from "../feed.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Check, Field } from "../parts/field.js";
import { Json } from "../parts/json.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";
import { request } from "../session.js";
import { parsed } from "./answers.js";
import { Frame } from "./frame.js";

const STATES = ["QUEUED", "SENT", "DELIVERED", "SUCCESSFUL", "TIMEOUT", "EXPIRED", "FAILED"];
const NEWEST = { property: "createdTime", order: "DESC" };
const GATHER = 300; // ms: what is told within that time is shown together

const path = (rpc) => `/api/rpc/persistent/${encodeURIComponent(rpc.id.id)}`;

export function PersistentTable({ title, deviceId, settings }) {
  return html`
    <${Frame} ...${{ title, deviceId }} className="tall">
      ${deviceId && html`<${Calls} key=${deviceId} ...${{ title, deviceId, settings }} />`}
    <//>
  `;
}

function Calls({ title, deviceId, settings }) {
  const { pageSize, allowSend, allowDelete } = settings;
  const [page, setPage] = useState(0);
  const [sort, setSort] = useState(NEWEST);
  const [status, setStatus] = useState("");
  const [open, setOpen] = useState(null); // a call, or "new"
  const load = (signal) =>
    request("GET", `/api/rpc/persistent/device/${encodeURIComponent(deviceId)}`, {
      query: { pageSize, page, sortProperty: sort.property, sortOrder: sort.order, rpcStatus: status },
      signal,
    });
  const calls = useLoad(load, [deviceId, pageSize, page, sort.property, sort.order, status]);
  useTold(deviceId, calls.reload);
  const remove = async (rpc) => {
    const question = { title: "Delete this call?", text: `${methodOf(rpc)}, ${rpc.id.id}`, action: "Delete", danger: true };
    if (!(await confirm(question))) return;
    await request("DELETE", path(rpc)).then(calls.reload, toast);
  };
  const show = (rpc) => html`<button class="sort" onClick=${() => setOpen(rpc)}><code>${rpc.id.id.slice(0, 8)}…</code></button>`;
  const columns = [
    { title: "RPC id", render: show },
    { title: "Created", sort: "createdTime", render: (rpc) => html`<${Time} ms=${rpc.createdTime} />` },
    { title: "Expires", sort: "expirationTime", wide: true, render: (rpc) => html`<${Time} ms=${rpc.expirationTime} />` },
    { title: "Type", wide: true, render: typeOf },
    { title: "Status", sort: "status", render: (rpc) => rpc.status },
    { title: "Method", render: methodOf },
  ];
  if (allowDelete) {
    const drop = (rpc) => html`<button aria-label="Delete ${methodOf(rpc)}" onClick=${() => remove(rpc)}>Delete</button>`;
    columns.push({ title: "", render: drop });
  }
  const filter = (value) => {
    setPage(0);
    setStatus(value);
  };
  return html`
    <div class="filters">
      <${Field} label="Status" type="select" value=${status} options=${[["", "all"], ...STATES]} onInput=${filter} />
      ${allowSend && html`<button onClick=${() => setOpen("new")}>New call</button>`}
    </div>
    <${Loaded} of=${calls}>
      ${(found) => html`
        <${Table} label=${title} columns=${columns} rows=${found.data} keyOf=${(rpc) => rpc.id.id} sort=${sort} onSort=${setSort}
          empty="There are no such calls." />
        <${Pager} page=${page} of=${found} onPage=${setPage} />`}
    <//>
    ${open === "new" && html`<${NewCall} ...${{ deviceId, onDone: calls.reload, onClose: () => setOpen(null) }} />`}
    ${open && open !== "new" && html`<${OneCall} rpc=${open} onClose=${() => setOpen(null)} />`}
  `;
}

const typeOf = (rpc) => (rpc.request.oneway ? "one-way" : "two-way");
const methodOf = (rpc) => rpc.request.body.method;

function useTold(deviceId, reload) {
  const last = useRef(reload);
  last.current = reload;
  useEffect(() => {
    let timer = null;
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = null;
        last.current();
      }, GATHER);
    };
    const end = watch(`rpcbroker.call.${deviceId}.`, (fields) => fields.persistent && soon(), { match: "prefix", onGap: soon });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [deviceId]);
}

function OneCall({ rpc, onClose }) {
  return html`
    <${Dialog} title=${methodOf(rpc)} onClose=${onClose}>
      <dl class="facts">
        <div><dt>RPC id</dt><dd><code>${rpc.id.id}</code></dd></div>
        <div><dt>Status</dt><dd>${rpc.status}, ${typeOf(rpc)}</dd></div>
        <div><dt>Retries</dt><dd>${rpc.request.retries ?? "as the broker says"}</dd></div>
      </dl>
      <h3>Params</h3><${Json} value=${parsed(rpc.request.body.params)} label="Params" />
      <h3>Response</h3><${Json} value=${rpc.response} label="Response" />
      <h3>Additional info</h3><${Json} value=${rpc.additionalInfo} label="Additional info" />
      <p><button onClick=${onClose}>Close</button></p>
    <//>
  `;
}

const NEW = { method: "", params: "", oneway: false, retries: "", additionalInfo: "" };

function NewCall({ deviceId, onDone, onClose }) {
  const [typed, setTyped] = useState(NEW);
  const [error, setError] = useState(null);
  const change = (name) => (value) => setTyped((old) => ({ ...old, [name]: value }));
  const json = (text) => (text.trim() ? parsed(text) : undefined);
  const send = async (event) => {
    event.preventDefault();
    const { method, params, oneway, retries, additionalInfo } = typed;
    const body = {
      method,
      params: json(params) ?? null,
      persistent: true,
      retries: retries.trim() ? Number(retries) : undefined,
      additionalInfo: json(additionalInfo),
    };
    try {
      await request("POST", `/api/rpc/${oneway ? "oneway" : "twoway"}/${encodeURIComponent(deviceId)}`, { body });
      onDone();
      onClose();
    } catch (failed) {
      setError(failed);
    }
  };
  return html`
    <${Dialog} title="New persistent call" onClose=${onClose}>
      <form class="form" onSubmit=${send}>
        <${Field} label="Method" value=${typed.method} onInput=${change("method")} required maxlength="255" />
        <${Field} label="Params" type="textarea" value=${typed.params} onInput=${change("params")} class="code"
          hint="JSON; what is none is sent as text." />
        <${Check} label="One-way: no reply is wanted" checked=${typed.oneway} onInput=${change("oneway")} />
        <${Field} label="Retries" type="number" min="0" value=${typed.retries} onInput=${change("retries")}
          hint="How often it is given again if the device does not acknowledge it." />
        <${Field} label="Additional info" type="textarea" value=${typed.additionalInfo} onInput=${change("additionalInfo")}
          class="code" hint="JSON; kept with the call, never sent to the device." />
        ${error && html`<p class="bad" role="alert">${error.message}${error.hint && ` ${error.hint}`}</p>`}
        <div class="row"><button class="primary">Send</button><button type="button" onClick=${onClose}>Cancel</button></div>
      </form>
    <//>
  `;
}
