// Rule chains of the tenant.

import { html, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Check, Field } from "../parts/field.js";
import { readJson, saveJson } from "../parts/files.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";

const PAGE_SIZE = 20;

export default function Chains() {
  const [page, setPage] = useState(0);
  const [sort, setSort] = useState({ property: "name", order: "ASC" });
  const [dialog, setDialog] = useState(null);
  const query = { pageSize: PAGE_SIZE, page, sortProperty: sort.property, sortOrder: sort.order };
  const loaded = useLoad((signal) => request("GET", "/api/ruleChains", { query, signal }), [page, sort]);
  const close = () => setDialog(null);

  const act = async (question, method, path) => {
    if (!(await confirm(question))) return;
    try {
      await request(method, path);
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const makeRoot = ({ id, name }) =>
    act({ title: `Make ${name} the root chain?`, text: "All messages of the tenant, calls too, begin there from now on.", action: "Make it the root" }, "POST", `/api/ruleChain/${id.id}/root`);
  const remove = ({ id, name }) =>
    act({ title: `Delete ${name}?`, text: "The chain and its nodes are gone. Other chains that lead to it lead nowhere then.", action: "Delete", danger: true }, "DELETE", `/api/ruleChain/${id.id}`);
  const exportAll = async () => {
    try {
      saveJson("rule-chains", await request("GET", "/api/ruleChains/export", { query: { limit: 1_000 } }));
    } catch (error) {
      toast(error);
    }
  };

  const columns = [
    { title: "Name", sort: "name", render: (chain) => html`<a href="#/chain/${chain.id.id}">${chain.name}</a> ${chain.root && html`<span class="fact yes">root</span>`}` },
    { title: "Created", wide: true, sort: "createdTime", render: (chain) => html`<${Time} ms=${chain.createdTime} />` },
    {
      title: "Actions",
      render: (chain) => !chain.root && html`
        <div class="row">
          <button onClick=${() => makeRoot(chain)}>Make root…</button>
          <button class="danger" onClick=${() => remove(chain)}>Delete…</button>
        </div>`,
    },
  ];
  return html`
    <h1>Rule chains</h1>
    <div class="filters">
      <button class="primary" onClick=${() => setDialog("new")}>New chain…</button>
      <button onClick=${() => setDialog("import")}>Import…</button>
      <button onClick=${exportAll}>Export all</button>
    </div>
    <${Loaded} of=${loaded}>
      ${(chains) => html`
        <${Table} label="Rule chains" columns=${columns} rows=${chains.data} keyOf=${(chain) => chain.id.id} sort=${sort} onSort=${setSort} />
        <${Pager} page=${page} of=${chains} onPage=${setPage} />
      `}
    <//>
    ${dialog === "new" && html`<${New} onClose=${close} />`}
    ${dialog === "import" && html`<${Import} onClose=${close} onDone=${loaded.reload} />`}
  `;
}

function New({ onClose }) {
  const [name, setName] = useState("");
  const make = async (event) => {
    event.preventDefault();
    try {
      const made = await request("POST", "/api/ruleChain/device/default", { body: { name } });
      location.hash = `#/chain/${made.id.id}`;
    } catch (error) {
      toast(error);
    }
  };
  return html`
    <${Dialog} title="New chain" onClose=${onClose}>
      <form class="form" onSubmit=${make}>
        <${Field} label="Name" required value=${name} onInput=${setName} autocomplete="off"
          hint="It begins as the default chain: calls go to their devices, and the broker answers what devices ask." />
        <div class="actions"><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Create</button></div>
      </form>
    <//>
  `;
}

function Import({ onClose, onDone }) {
  const [file, setFile] = useState(null);
  const [overwrite, setOverwrite] = useState(false);
  const [results, setResults] = useState(null);
  const take = async (event) => {
    event.preventDefault();
    try {
      setResults(await request("POST", "/api/ruleChains/import", { query: { overwrite }, body: await readJson(file) }));
      onDone();
    } catch (error) {
      toast(error);
    }
  };
  if (results) {
    return html`
      <${Dialog} title="Imported" onClose=${onClose}>
        <ul>
          ${results.map((result) => html`
            <li key=${result.ruleChainId.id}>
              <a href="#/chain/${result.ruleChainId.id}" onClick=${onClose}>${result.ruleChainName}</a> ${result.updated ? "was replaced" : "is new"}.
              ${result.warnings.length > 0 && html`<ul class="warn">${result.warnings.map((warning) => html`<li>${warning}</li>`)}</ul>`}
            </li>`)}
        </ul>
        <div class="actions"><button class="primary" onClick=${onClose}>Close</button></div>
      <//>
    `;
  }
  return html`
    <${Dialog} title="Import rule chains" onClose=${onClose}>
      <form class="form" onSubmit=${take}>
        <${Field} label="File" type="file" accept=".json,application/json" required onChange=${(event) => setFile(event.target.files[0] ?? null)}
          hint="A chain, or all of a tenant's, as they are exported here or by ThingsBoard." />
        <${Check} label="Replace chains of the same name" checked=${overwrite} onInput=${setOverwrite} />
        <div class="actions"><button type="button" onClick=${onClose}>Cancel</button><button class="primary" disabled=${!file}>Import</button></div>
      </form>
    <//>
  `;
}
