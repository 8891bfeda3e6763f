// API keys of a user: what programs ask with.

import { html, useState } from "../vendor/htm-preact.js";
import { request, session } from "../session.js";
import { Copy } from "../parts/copy.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Check, Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { exact, Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";

const PAGE_SIZE = 20;
const ACCESS = [
  ["READ", "READ: look at devices and calls"],
  ["CALL", "CALL: call devices too"],
  ["MANAGE", "MANAGE: all that the user may, but handle users"],
];

export function Keys() {
  const [page, setPage] = useState(0);
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState(null);
  const query = { pageSize: PAGE_SIZE, page, sortProperty: "createdTime", sortOrder: "DESC" };
  const loaded = useLoad((signal) => request("GET", `/api/apiKeys/${session.user.id.id}`, { query, signal }), [page]);
  const act = async (method, path) => {
    try {
      await request(method, path);
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const revoke = async ({ id, description }) => {
    const question = { title: `Revoke ${description}?`, text: "Programs that use this key are refused from now on.", action: "Revoke", danger: true };
    if (await confirm(question)) act("DELETE", `/api/apiKey/${id.id}`);
  };
  const columns = [
    { title: "Description", render: (key) => html`${key.description}${" "}<code class="quiet">${key.hint}…</code>` },
    { title: "May", render: (key) => html`<${Scope} scope=${key.scope} />` },
    { title: "State", render: (key) => (key.expired ? html`<span class="bad">expired</span>` : key.enabled ? html`<span class="good">on</span>` : html`<span class="warn">off</span>`) },
    { title: "Ends", wide: true, render: (key) => (key.expirationTime ? exact(key.expirationTime) : "never") },
    { title: "Last used", wide: true, render: (key) => html`<${Time} ms=${key.lastUsedTime} />` },
    {
      title: "Actions",
      render: (key) => html`
        <div class="row">
          <button onClick=${() => act("PUT", `/api/apiKey/${key.id.id}/enabled/${!key.enabled}`)}>${key.enabled ? "Switch off" : "Switch on"}</button>
          <button class="danger" onClick=${() => revoke(key)}>Revoke…</button>
        </div>`,
    },
  ];
  return html`
    <p class="quiet">Keys are yours, ${session.user.email}: a program that shows one is you, as far as the key allows.</p>
    <div class="filters"><button class="primary" onClick=${() => setMaking(true)}>New key…</button></div>
    <${Loaded} of=${loaded}>
      ${(keys) => html`
        <${Table} label="API keys" columns=${columns} rows=${keys.data} keyOf=${(key) => key.id.id} />
        <${Pager} page=${page} of=${keys} onPage=${setPage} />
      `}
    <//>
    ${making && html`<${Make} onClose=${() => setMaking(false)} onMade=${(key) => (setMaking(false), setMade(key), loaded.reload())} />`}
    ${made && html`
      <${Dialog} title="The key" onClose=${() => setMade(null)}>
        <p>This is shown once: the broker does not keep it. Programs send it as <code>X-Authorization: ApiKey …</code></p>
        <pre tabindex="0" class="json">${made.value}</pre>
        <div class="actions"><${Copy} text=${made.value} label="Copy the key" /><button class="primary" onClick=${() => setMade(null)}>Close</button></div>
      <//>`}
  `;
}

function Scope({ scope }) {
  const rules = [
    scope.methods.length > 0 && `methods ${scope.methods.join(", ")}`,
    scope.deviceTypes.length > 0 && `types ${scope.deviceTypes.join(", ")}`,
    scope.deviceIds.length > 0 && `${scope.deviceIds.length} devices`,
    scope.customerId && "one customer's devices",
    !scope.oneway && "two-way only",
    !scope.twoway && "one-way only",
  ].filter(Boolean);
  return html`${scope.access}${rules.length > 0 && html`<br /><span class="quiet">${rules.join("; ")}</span>`}`;
}

const listed = (text) => text.split(",").map((each) => each.trim()).filter(Boolean);

function Make({ onClose, onMade }) {
  const [given, setGiven] = useState({ description: "", access: "CALL", methods: "", types: "", oneway: true, twoway: true, until: "" });
  const set = (name) => (value) => setGiven({ ...given, [name]: value });
  const limits = given.access !== "MANAGE"; // a key that manages is held to nothing
  const make = async (event) => {
    event.preventDefault();
    const { access, methods, types, oneway, twoway } = given;
    const scope = limits ? { access, methods: listed(methods), deviceTypes: listed(types), oneway, twoway } : { access };
    const ends = given.until && { expirationTime: new Date(given.until).getTime() };
    try {
      onMade(await request("POST", "/api/apiKey", { body: { description: given.description, scope, ...ends } }));
    } catch (error) {
      toast(error);
    }
  };
  return html`
    <${Dialog} title="New key" onClose=${onClose}>
      <form class="form" onSubmit=${make}>
        <${Field} label="Description" required value=${given.description} onInput=${set("description")} autocomplete="off" />
        <${Field} label="Access" type="select" value=${given.access} onInput=${set("access")} options=${ACCESS} />
        ${limits && html`
          <${Field} label="Methods" value=${given.methods} onInput=${set("methods")} placeholder="get*, setGpio" hint="Patterns, with commas; empty is all." autocomplete="off" />
          <${Field} label="Device types" value=${given.types} onInput=${set("types")} hint="With commas; empty is all." autocomplete="off" />
          <div class="row">
            <${Check} label="One-way calls" checked=${given.oneway} onInput=${set("oneway")} />
            <${Check} label="Two-way calls" checked=${given.twoway} onInput=${set("twoway")} />
          </div>`}
        <${Field} label="Ends" type="datetime-local" value=${given.until} onInput=${set("until")} hint="Empty is never." />
        <div class="actions"><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Create</button></div>
      </form>
    <//>
  `;
}
