// The devices: found, made, deleted; and which of them can be called now.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { watch } from "../feed.js";
import { request, session } from "../session.js";
import { Credentials } from "../parts/credentials.js";
import { Dialog, confirm } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { Failed, Loaded, useLoad } from "../parts/load.js";
import { Fact } from "../parts/presence.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";

const PAGE_SIZE = 20;
const TYPING = 250; // ms without a key until it is searched

export default function Devices() {
  const [typed, setTyped] = useState("");
  const [asked, setAsked] = useState({ text: "", page: 0, sort: { property: "createdTime", order: "DESC" } });
  const [open, setOpen] = useState(null); // {making: true}, or {credentials: device}
  useEffect(() => {
    if (typed === asked.text) return;
    const timer = setTimeout(() => setAsked((old) => ({ ...old, text: typed, page: 0 })), TYPING);
    return () => clearTimeout(timer);
  }, [typed, asked.text]);
  const list = useLoad((signal) => found(asked, signal), [asked]);
  useEffect(() => watch("rpcbroker.device", (event) => list.change((old) => heard(old, event)), { match: "prefix" }), []);

  const admin = session.user.authority === "TENANT_ADMIN";
  const remove = async (device) => {
    const text = `“${device.name}” is deleted with its credentials, attributes, telemetry and calls. It cannot be undone.`;
    if (!(await confirm({ title: "Delete this device?", text, action: "Delete", danger: true }))) return;
    try {
      await request("DELETE", `/api/device/${device.id.id}`);
      toast(`Deleted ${device.name}.`);
      list.reload();
    } catch (error) {
      toast(error);
    }
  };
  const columns = [
    { title: "Name", sort: "name", render: (device) => html`<a href="#/device/${device.id.id}">${device.name}</a>${device.label && html`<br /><span class="quiet">${device.label}</span>`}` },
    { title: "Presence", render: (device) => html`<${Now} presence=${device.presence} />` },
    { title: "Last seen", wide: true, render: ({ presence }) => presence && html`<${Time} ms=${presence.seenTime} />` },
    { title: "Type", sort: "type", wide: true, render: (device) => device.type },
    { title: "Customer", wide: true, render: (device) => device.customerTitle },
    { title: "Made", sort: "createdTime", wide: true, render: (device) => html`<${Time} ms=${device.createdTime} />` },
    {
      title: "",
      render: (device) => html`
        <div class="row">
          <button aria-label=${`Credentials of ${device.name}`} onClick=${() => setOpen({ credentials: device })}>Credentials</button>
          ${admin && html`<button class="danger" aria-label=${`Delete ${device.name}`} onClick=${() => remove(device)}>Delete</button>`}
        </div>`,
    },
  ];
  return html`
    <div class="row spread">
      <h1>Devices</h1>
      ${admin && html`<button class="primary" onClick=${() => setOpen({ making: true })}>New device</button>`}
    </div>
    <div class="filters" role="search">
      <${Field} label="Search" placeholder="name, type or label" type="search" value=${typed} onInput=${setTyped} />
    </div>
    <${Loaded} of=${list}>${(page) => html`
      <${Table} label="Devices" columns=${columns} rows=${page.data} keyOf=${(device) => device.id.id}
        sort=${asked.sort} onSort=${(sort) => setAsked({ ...asked, sort, page: 0 })}
        empty=${asked.text ? "No device is called so." : "There is no device yet."} />
      <${Pager} page=${asked.page} of=${page} onPage=${(number) => setAsked({ ...asked, page: number })} />
    `}<//>
    ${open?.making && html`<${Make} onClose=${() => setOpen(null)}
      onMade=${(device) => (setOpen({ credentials: device }), list.reload())} />`}
    ${open?.credentials && html`
      <${Dialog} title=${`Credentials of ${open.credentials.name}`} onClose=${() => setOpen(null)}>
        <${Credentials} deviceId=${open.credentials.id.id} />
        <div class="actions">
          <a class="button" href="#/device/${open.credentials.id.id}">To the device</a>
          <button onClick=${() => setOpen(null)}>Close</button>
        </div>
      <//>`}
  `;
}

// A page of devices, each with its presence as the feed tells it.
async function found({ text, page, sort }, signal) {
  const query = { pageSize: PAGE_SIZE, page, textSearch: text, sortProperty: sort.property, sortOrder: sort.order };
  const list = await request("GET", "/api/deviceInfos/all", { query, signal });
  const data = await Promise.all(
    list.data.map(async (device) => {
      try {
        const told = await request("GET", `/api/device/${device.id.id}/presence`, { signal });
        const { connected, callable, lastSeen } = told;
        return { ...device, presence: { connected: connected.value, callable: callable.value, seenTime: lastSeen.time } };
      } catch (error) {
        if (error.status === 404) return device; // deleted meanwhile
        throw error;
      }
    }),
  );
  return { ...list, data };
}

function heard(list, event) {
  if (!list || event.connected === undefined) return list;
  if (!list.data.some((device) => device.id.id === event.deviceId)) return list; // of thousands that come and go
  const { connected, callable, seenTime } = event;
  const data = list.data.map((device) =>
    device.id.id === event.deviceId ? { ...device, presence: { connected, callable, seenTime } } : device,
  );
  return { ...list, data };
}

function Now({ presence }) {
  if (!presence) return html`<span class="quiet">unknown</span>`;
  return html`
    <span class="row tight">
      <${Fact} word="callable" value=${presence.callable} />
      <${Fact} word="connected" value=${presence.connected} />
    </span>
  `;
}

function Make({ onClose, onMade }) {
  const [given, setGiven] = useState({ name: "", type: "default", label: "", accessToken: "" });
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const field = (name) => ({ value: given[name], onInput: (value) => setGiven((old) => ({ ...old, [name]: value })) });
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const { name, type, label, accessToken } = given;
    try {
      onMade(await request("POST", "/api/device", { query: { accessToken }, body: { name, type, label: label || null } }));
      toast(`Made ${name}.`);
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title="New device" onClose=${onClose}>
      <form class="form" onSubmit=${submit}>
        <${Field} label="Name" required autofocus maxlength="255" ...${field("name")} />
        <${Field} label="Type" maxlength="255" ...${field("type")} />
        <${Field} label="Label (may be empty)" maxlength="255" ...${field("label")} />
        <${Field} label="Access token (may be empty)" autocomplete="off" hint="One is made up if none is given." ...${field("accessToken")} />
        ${error && html`<${Failed} error=${error} />`}
        <div class="actions">
          <button type="button" onClick=${onClose}>Cancel</button>
          <button class="primary" disabled=${busy}>Make</button>
        </div>
      </form>
    <//>
  `;
}
