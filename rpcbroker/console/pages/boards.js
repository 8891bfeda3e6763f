// The boards: widgets that somebody has arranged, for all who may see them.

import { html, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { confirm } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";

const PAGE_SIZE = 20;

export default function Boards() {
  const [page, setPage] = useState(0);
  const [text, setText] = useState("");
  const [sort, setSort] = useState({ property: "title", order: "ASC" });
  const query = { pageSize: PAGE_SIZE, page, textSearch: text, sortProperty: sort.property, sortOrder: sort.order };
  const boards = useLoad((signal) => request("GET", "/api/boards", { query, signal }), [page, text, sort]);
  const remove = async ({ id, title }) => {
    const question = { title: `Delete the board ${title}?`, text: "It is gone for all who see it.", action: "Delete", danger: true };
    if (!(await confirm(question))) return;
    try {
      await request("DELETE", `/api/board/${encodeURIComponent(id.id)}`);
      boards.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "Title", sort: "title", render: ({ id, title }) => html`<a href="#/board/${id.id}">${title}</a>` },
    { title: "Device", wide: true, render: ({ deviceId }) => (deviceId ? html`<a href="#/device/${deviceId.id}">its device</a>` : "any") },
    { title: "Changed", render: ({ updatedTime }) => html`<${Time} ms=${updatedTime} />` },
    {
      title: "Actions",
      render: (board) => html`<button class="danger" aria-label="Delete ${board.title}" onClick=${() => remove(board)}>Delete</button>`,
    },
  ];
  const search = (typed) => {
    setPage(0);
    setText(typed);
  };
  return html`
    <h1>Boards</h1>
    <div class="filters">
      <${Field} label="Search" type="search" value=${text} onInput=${search} />
      <a class="button primary" href="#/board/new">New board</a>
    </div>
    <${Loaded} of=${boards}>
      ${(found) => html`
        <${Table} label="Boards" columns=${columns} rows=${found.data} keyOf=${({ id }) => id.id} sort=${sort} onSort=${setSort}
          empty="There are no boards yet." />
        <${Pager} page=${page} of=${found} onPage=${setPage} />`}
    <//>
  `;
}
