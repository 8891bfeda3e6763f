// Tenants, with their administrators; for system administrators.

import { html, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";
import { Titled } from "../parts/titled.js";
import { Users } from "./users.js";

const PAGE_SIZE = 20;

export function Tenants() {
  const [page, setPage] = useState(0);
  const [text, setText] = useState("");
  const [dialog, setDialog] = useState(null);
  const query = { pageSize: PAGE_SIZE, page, textSearch: text, sortProperty: "title" };
  const loaded = useLoad((signal) => request("GET", "/api/tenants", { query, signal }), [page, text]);
  const remove = async ({ id, title }) => {
    const question = "Its users, customers, devices and rule chains are gone for ever.";
    if (!(await confirm({ title: `Delete ${title}?`, text: question, action: "Delete all of it", danger: true }))) return;
    try {
      await request("DELETE", `/api/tenant/${id.id}`);
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "Title", render: (tenant) => tenant.title },
    { title: "Created", wide: true, render: (tenant) => html`<${Time} ms=${tenant.createdTime} />` },
    {
      title: "Actions",
      render: (tenant) => html`
        <div class="row">
          <button onClick=${() => setDialog({ users: tenant })}>Administrators…</button>
          <button class="danger" onClick=${() => remove(tenant)}>Delete…</button>
        </div>`,
    },
  ];
  const search = (next) => {
    setPage(0);
    setText(next);
  };
  const close = () => setDialog(null);
  return html`
    <div class="filters">
      <${Field} label="Search" type="search" value=${text} onInput=${search} />
      <button class="primary" onClick=${() => setDialog({ make: true })}>New tenant…</button>
    </div>
    <${Loaded} of=${loaded}>
      ${(tenants) => html`
        <${Table} label="Tenants" columns=${columns} rows=${tenants.data} keyOf=${(tenant) => tenant.id.id} />
        <${Pager} page=${page} of=${tenants} onPage=${setPage} />
      `}
    <//>
    ${dialog?.make && html`<${Titled} title="New tenant" path="/api/tenant" onClose=${close} onMade=${loaded.reload} />`}
    ${dialog?.users && html`
      <${Dialog} title="Administrators of ${dialog.users.title}" onClose=${close}>
        <${Users} of="/api/tenant/${dialog.users.id.id}/users" role="TENANT_ADMIN" place=${{ tenantId: dialog.users.id }} />
        <div class="actions"><button onClick=${close}>Close</button></div>
      <//>`}
  `;
}
