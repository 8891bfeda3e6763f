// Customers, with the devices that they may use.

import { html, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { Dialog } from "../parts/dialog.js";
import { Loaded, useLoad } from "../parts/load.js";
import { PickDevice } from "../parts/pick_device.js";
import { Pager, Table } from "../parts/table.js";
import { toast } from "../parts/toast.js";
import { TitledList } from "./titled.js";

const PAGE_SIZE = 20;

const warning = (title) => `The users of ${title} are deleted too; its devices stay, and are no customer's.`;

export function Customers() {
  return html`
    <${TitledList} noun="customer" members="Users" role="CUSTOMER_USER" warning=${warning} others="Devices" Others=${Devices} />
  `;
}

function Devices({ of: customer, onClose }) {
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
