// Customers, with the devices that they may use.

import { html, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { PickDevice } from "../parts/pick_device.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";
import { Titled } from "../parts/titled.js";
import { Users } from "./users.js";

const PAGE_SIZE = 20;

export function Customers() {
  const [page, setPage] = useState(0);
  const [text, setText] = useState("");
  const [dialog, setDialog] = useState(null);
  const query = { pageSize: PAGE_SIZE, page, textSearch: text, sortProperty: "title" };
  const loaded = useLoad((signal) => request("GET", "/api/customers", { query, signal }), [page, text]);
  const remove = async ({ id, title }) => {
    const question = `The users of ${title} are deleted too; its devices stay, and are no customer's.`;
    if (!(await confirm({ title: `Delete ${title}?`, text: question, action: "Delete", danger: true }))) return;
    try {
      await request("DELETE", `/api/customer/${id.id}`);
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "Title", render: (customer) => customer.title },
    { title: "Created", wide: true, render: (customer) => html`<${Time} ms=${customer.createdTime} />` },
    {
      title: "Actions",
      render: (customer) => html`
        <div class="row">
          <button onClick=${() => setDialog({ devices: customer })}>Devices…</button>
          <button onClick=${() => setDialog({ users: customer })}>Users…</button>
          <button class="danger" onClick=${() => remove(customer)}>Delete…</button>
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
      <button class="primary" onClick=${() => setDialog({ make: true })}>New customer…</button>
    </div>
    <${Loaded} of=${loaded}>
      ${(customers) => html`
        <${Table} label="Customers" columns=${columns} rows=${customers.data} keyOf=${(customer) => customer.id.id} />
        <${Pager} page=${page} of=${customers} onPage=${setPage} />
      `}
    <//>
    ${dialog?.make && html`<${Titled} title="New customer" path="/api/customer" onClose=${close} onMade=${loaded.reload} />`}
    ${dialog?.devices && html`<${Devices} customer=${dialog.devices} onClose=${close} />`}
    ${dialog?.users && html`
      <${Dialog} title="Users of ${dialog.users.title}" onClose=${close}>
        <${Users} of="/api/customer/${dialog.users.id.id}/users" role="CUSTOMER_USER" place=${{ customerId: dialog.users.id }} />
        <div class="actions"><button onClick=${close}>Close</button></div>
      <//>`}
  `;
}

function Devices({ customer, onClose }) {
  const [page, setPage] = useState(0);
  const [picked, setPicked] = useState("");
  const [count, setCount] = useState(0);
  const query = { pageSize: PAGE_SIZE, page, sortProperty: "name" };
  const loaded = useLoad((signal) => request("GET", `/api/customer/${customer.id.id}/devices`, { query, signal }), [page]);
  const change = async (method, path) => {
    try {
      await request(method, path);
      setPicked("");
      setCount(count + 1); // an empty field for the next one
      loaded.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "Device", render: (device) => html`<a href="#/device/${device.id.id}">${device.name}</a>` },
    { title: "Actions", render: (device) => html`<button onClick=${() => change("DELETE", `/api/customer/device/${device.id.id}`)} aria-label="Take away ${device.name}">Take away</button>` },
  ];
  const assign = (event) => {
    event.preventDefault();
    change("POST", `/api/customer/${customer.id.id}/device/${picked}`);
  };
  return html`
    <${Dialog} title="Devices of ${customer.title}" onClose=${onClose}>
      <form class="filters" onSubmit=${assign}>
        <${PickDevice} key=${count} value=${picked} onPick=${setPicked} label="Device to assign" />
        <button class="primary" disabled=${!picked}>Assign</button>
      </form>
      <${Loaded} of=${loaded}>
        ${(devices) => html`
          <${Table} label="Devices of the customer" columns=${columns} rows=${devices.data} keyOf=${(device) => device.id.id} />
          <${Pager} page=${page} of=${devices} onPage=${setPage} />
        `}
      <//>
      <div class="actions"><button onClick=${onClose}>Close</button></div>
    <//>
  `;
}
