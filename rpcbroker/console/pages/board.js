// One board: its widgets, and how they are arranged. Of a device that has none yet, one that begins.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { request, session } from "../session.js";
import { Dialog } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { PickDevice } from "../parts/pick_device.js";
import { toast } from "../parts/toast.js";
import { newUuid } from "../parts/uuid.js";
import { added, body, EMPTY, MOST, opened } from "../widgets/boards.js";
import { SettingsForm } from "../widgets/form.js";
import { kindOf, KINDS } from "../widgets/kinds.js";
import { inOrder } from "../widgets/layout.js";
import { EditedTile, Tile } from "../widgets/tile.js";

const CONFLICT = 409;
const one = (id) => `/api/board/${encodeURIComponent(id)}`;

export default function Board({ params }) {
  const { id, deviceId } = params;
  const loaded = useLoad((signal) => (id === "new" || deviceId ? ofDevice(deviceId, signal) : request("GET", one(id), { signal })), [id, deviceId]);
  return html`<${Loaded} of=${loaded}>${(board) => html`<${Opened} key=${board.id?.id ?? "new"} board=${board} />`}<//>`;
}

// The device's first board; a new one, as the API would give it, if it has none, or if no device is named.
async function ofDevice(deviceId, signal) {
  if (!deviceId) return { ...EMPTY, content: { widgets: [] } };
  const query = { deviceId, pageSize: 1, page: 0, sortProperty: "createdTime", sortOrder: "ASC" };
  const found = await request("GET", "/api/boards", { query, signal });
  if (found.data[0]) return request("GET", one(found.data[0].id.id), { signal });
  const device = await request("GET", `/api/device/${encodeURIComponent(deviceId)}`, { signal });
  const widgets = ["terminal"].reduce((boxes, type) => added(boxes, kindOf(type), newUuid()), []);
  return { title: device.name, deviceId: device.id, customerId: null, content: { widgets } };
}

function Opened({ board }) {
  const [saved, setSaved] = useState(board);
  const [draft, setDraft] = useState(() => (board.id ? null : opened(board)));
  const [theirs, setTheirs] = useState(null); // what somebody else has saved meanwhile
  useEffect(() => draft === null && setSaved(board), [board]);
  const store = async (version) => {
    try {
      const path = saved.id ? one(saved.id.id) : "/api/boards";
      const kept = await request(saved.id ? "PUT" : "POST", path, { body: body(draft, version) });
      setSaved(kept);
      setDraft(null);
      setTheirs(null);
      toast("The board is saved.");
      if (!saved.id) location.replace(`#/board/${kept.id.id}`);
    } catch (error) {
      if (error.status === CONFLICT && saved.id) setTheirs(await request("GET", one(saved.id.id)).catch(toast));
      else toast(error);
    }
  };
  const take = () => {
    setSaved(theirs);
    setDraft(null);
    setTheirs(null);
  };
  if (!draft) return html`<${Shown} board=${opened(saved)} onEdit=${() => setDraft(opened(saved))} />`;
  return html`
    <${Edited} draft=${draft} onDraft=${setDraft} onSave=${() => store(saved.version)}
      onCancel=${() => (saved.id ? setDraft(null) : (location.hash = "#/boards"))} />
    ${theirs && html`
      <${Dialog} title="Somebody else has changed this board" onClose=${() => setTheirs(null)}>
        <p>It was saved while you were working on it. Yours can take the place of that, or you leave it as it is now and lose
          what you have changed.</p>
        <div class="row">
          <button onClick=${() => setTheirs(null)}>Go on working</button>
          <button onClick=${take}>Leave theirs, lose mine</button>
          <button class="danger" onClick=${() => store(theirs.version)}>Save mine, lose theirs</button>
        </div>
      <//>`}
  `;
}

// -- to be used

function Shown({ board, onEdit }) {
  const names = useNames(board);
  return html`
    <div class="row spread">
      <h1>${board.title}</h1>
      <span class="row">
        ${board.deviceId && html`<a href="#/device/${board.deviceId}">Its device</a>`}
        <button onClick=${onEdit}>Edit</button>
      </span>
    </div>
    ${board.boxes.length === 0 && html`<p class="quiet">There is nothing on this board yet.</p>`}
    <div class="board">
      ${board.boxes.map((box, index) => html`
        <${Tile} key=${box.id} box=${box} order=${index} deviceId=${board.deviceId} name=${names[box.deviceId]} />`)}
    </div>
  `;
}

// The names of the devices that widgets have of their own: {id: name}.
function useNames({ boxes }) {
  const [names, setNames] = useState({});
  const ids = [...new Set(boxes.map(({ deviceId }) => deviceId).filter(Boolean))].join(",");
  useEffect(() => {
    if (!ids) return undefined;
    const aborted = new AbortController();
    request("GET", "/api/devices", { query: { deviceIds: ids }, signal: aborted.signal }).then(
      (devices) => setNames(Object.fromEntries(devices.map(({ id, name }) => [id.id, name]))),
      () => {}, // they stay without their names
    );
    return () => aborted.abort();
  }, [ids]);
  return names;
}

// -- to be arranged

function Edited({ draft, onDraft, onSave, onCancel }) {
  const [said, setSaid] = useState("");
  const [set, setSet] = useState(null); // the widget whose settings are open
  const place = useRef(null);
  const change = (changes) => onDraft((old) => ({ ...old, ...changes }));
  const arrange = (boxes) => change({ boxes });
  const { boxes } = draft;
  // Their order in the document stays, or who moves one would lose hold of it.
  const order = new Map(inOrder(boxes).map(({ id }, index) => [id, index]));
  const stable = [...boxes].sort((a, b) => (a.id < b.id ? -1 : 1));
  const cell = () => {
    const style = getComputedStyle(place.current);
    if (style.display !== "grid") return null;
    const gap = parseFloat(style.rowGap);
    return { width: (place.current.clientWidth + gap) / 12, height: parseFloat(style.gridAutoRows) + gap };
  };
  const add = (type) => {
    if (boxes.length >= MOST) return toast(new Error(`A board has at most ${MOST} widgets.`));
    arrange(added(boxes, kindOf(type), newUuid()));
    setSaid(`${kindOf(type).title} added`);
  };
  const apply = (box) => {
    arrange(boxes.map((each) => (each.id === box.id ? box : each)));
    setSet(null);
  };
  const save = (event) => {
    event.preventDefault();
    onSave();
  };
  return html`
    <form class="board-form" onSubmit=${save}>
      <h1>${draft.title || "Board"}</h1>
      <div class="fields">
        <${Field} label="Title" value=${draft.title} onInput=${(title) => change({ title })} required maxlength="255" />
        <${PickDevice} label="Device of the board" value=${draft.deviceId ?? ""} onPick=${(id) => change({ deviceId: id || null })} />
        ${session.user.authority === "TENANT_ADMIN" && html`
          <${CustomerChoice} value=${draft.customerId} onChoose=${(customerId) => change({ customerId })} />`}
        <${Field} label="Add a widget" type="select" value="" onInput=${(type) => type && add(type)}
          options=${[["", "Choose one"], ...KINDS.map(({ type, title }) => [type, title])]} />
      </div>
      <div class="row">
        <button class="primary">Save</button>
        <button type="button" onClick=${onCancel}>Cancel</button>
      </div>
    </form>
    <p class="quiet" id="board-help">Drag widgets by their handles, or focus a handle: arrow keys move the widget, with Shift they size it.</p>
    <div class="unseen" role="status">${said}</div>
    <div class="board" ref=${place}>
      ${stable.map((box) => html`
        <${EditedTile} key=${box.id} order=${order.get(box.id)} ...${{ box, boxes, cell }} onArrange=${arrange} onSay=${setSaid}
          onSettings=${() => setSet(box)} onRemove=${() => arrange(boxes.filter(({ id }) => id !== box.id))} />`)}
    </div>
    ${set && kindOf(set.type) && html`
      <${SettingsForm} kind=${kindOf(set.type)} box=${set} own=${draft.deviceId !== null} onDone=${apply} onClose=${() => setSet(null)} />`}
  `;
}

// Whose users see the board, too.
function CustomerChoice({ value, onChoose }) {
  const query = { pageSize: 100, page: 0, sortProperty: "title", sortOrder: "ASC" };
  const { value: found } = useLoad((signal) => request("GET", "/api/customers", { query, signal }), []);
  const customers = (found?.data ?? []).map(({ id, title }) => [id.id, title]);
  if (value && !customers.some(([id]) => id === value)) customers.push([value, "another customer"]);
  return html`
    <${Field} label="Customer whose users see it, too" type="select" value=${value ?? ""} onInput=${(id) => onChoose(id || null)}
      options=${[["", "none: administrators only"], ...customers]} />`;
}
