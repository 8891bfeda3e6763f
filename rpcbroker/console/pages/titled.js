// What has a title and users, and little more: customers and tenants, as one list for both.

import { html, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";
import { Users } from "./users.js";

const PAGE_SIZE = 20;

// `noun` is the API's word for one of them; `members` what its users are called here, and `role` what they are;
// `warning(title)` says what goes with it when it is deleted. `Others`, if it is given, is the content of one more
// dialog, called `others`: a component that gets the thing as `of`, and `onClose`.
export function TitledList({ noun, members, role, warning, others, Others }) {
  const [page, setPage] = useState(0);
  const [text, setText] = useState("");
  const [dialog, setDialog] = useState(null);
  const query = { pageSize: PAGE_SIZE, page, textSearch: text, sortProperty: "title" };
  const loaded = useLoad((signal) => request("GET", `/api/${noun}s`, { query, signal }), [page, text]);
  const remove = async ({ id, title }) => {
    if (!(await confirm({ title: `Delete ${title}?`, text: warning(title), action: `Delete the ${noun}`, danger: true }))) return;
    try {
      await request("DELETE", `/api/${noun}/${id.id}`);
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "Title", render: (each) => each.title },
    { title: "Created", wide: true, render: (each) => html`<${Time} ms=${each.createdTime} />` },
    {
      title: "Actions",
      render: (each) => html`
        <div class="row">
          ${Others && html`<button onClick=${() => setDialog({ others: each })}>${others}…</button>`}
          <button onClick=${() => setDialog({ users: each })}>${members}…</button>
          <button class="danger" onClick=${() => remove(each)}>Delete…</button>
        </div>`,
    },
  ];
  const search = (next) => {
    setPage(0);
    setText(next);
  };
  const close = () => setDialog(null);
  const { make, users, others: shown } = dialog ?? {};
  return html`
    <div class="filters">
      <${Field} label="Search" type="search" value=${text} onInput=${search} />
      <button class="primary" onClick=${() => setDialog({ make: true })}>New ${noun}…</button>
    </div>
    <${Loaded} of=${loaded}>
      ${(all) => html`
        <${Table} label="All ${noun}s" columns=${columns} rows=${all.data} keyOf=${(each) => each.id.id} />
        <${Pager} page=${page} of=${all} onPage=${setPage} />
      `}
    <//>
    ${make && html`<${Make} noun=${noun} onClose=${close} onMade=${loaded.reload} />`}
    ${shown && html`<${Others} of=${shown} onClose=${close} />`}
    ${users && html`
      <${Dialog} title="${members} of ${users.title}" onClose=${close}>
        <${Users} of="/api/${noun}/${users.id.id}/users" role=${role} place=${{ [`${noun}Id`]: users.id }} />
        <div class="actions"><button onClick=${close}>Close</button></div>
      <//>`}
  `;
}

function Make({ noun, onClose, onMade }) {
  const [text, setText] = useState("");
  const make = async (event) => {
    event.preventDefault();
    try {
      await request("POST", `/api/${noun}`, { body: { title: text } });
      onMade();
      onClose();
    } catch (error) {
      toast(error);
    }
  };
  return html`
    <${Dialog} title="New ${noun}" onClose=${onClose}>
      <form class="form" onSubmit=${make}>
        <${Field} label="Title" required value=${text} onInput=${setText} autocomplete="off" />
        <div class="actions"><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Create</button></div>
      </form>
    <//>
  `;
}
