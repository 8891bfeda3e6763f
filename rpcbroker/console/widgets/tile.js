// A widget on a board: to be used, or to be moved, sized and set.

import { html, useErrorBoundary } from "../vendor/htm-preact.js";
import { Frame } from "./frame.js";
import { kindOf } from "./kinds.js";
import { moved, resized } from "./layout.js";
import { settled } from "./settings.js";
import { COMPONENTS } from "./table.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const UNKNOWN = { title: "Unknown widget", least: [2, 2], settings: [] };

function place({ x, y, w, h }, order) {
  return { "--x": x + 1, "--y": y + 1, "--w": w, "--h": h, order };
}

function Unknown({ title, deviceId, type }) {
  return html`<${Frame} ...${{ title, deviceId: deviceId ?? "none" }}><p class="quiet">This console knows no widget “${type}”.</p><//>`;
}

// `box` is the widget, `deviceId` the board's device, `name` that of the widget's device if it is another.
export function Tile({ box, deviceId, name, order }) {
  const kind = kindOf(box.type) ?? UNKNOWN;
  const [broken] = useErrorBoundary(console.error); // the others on the board stay
  const shown = {
    title: [box.title || kind.title, name].filter(Boolean).join(" · "),
    deviceId: box.deviceId ?? deviceId,
    settings: settled(kind.settings, box.settings),
    type: box.type,
  };
  return html`
    <div class="tile" style=${place(box, order)} data-type=${box.type}>
      ${broken
        ? html`<${Frame} ...${{ ...shown, state: "failed", error: broken }} />`
        : html`<${kind === UNKNOWN ? Unknown : COMPONENTS[box.type]} ...${shown} />`}
    </div>
  `;
}

// The same while the board is arranged: `boxes` are all, `onArrange(boxes)`; `cell()` is {width, height} of a cell in px,
// null where widgets only follow one another. `onSay(sentence)` tells what the keys have done.
export function EditedTile({ box, boxes, order, cell, onArrange, onSay, onSettings, onRemove }) {
  const kind = kindOf(box.type) ?? UNKNOWN;
  const title = box.title || kind.title;
  const key = (event) => {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    const next = event.shiftKey ? resized(boxes, box.id, ...step, kind.least) : moved(boxes, box.id, ...step);
    const { x, y, w, h } = next.find(({ id }) => id === box.id);
    onArrange(next);
    onSay(event.shiftKey ? `${title}: ${w} wide, ${h} high` : `${title}: column ${x + 1}, row ${y + 1}`);
  };
  const drag = (event, change) => {
    const size = cell();
    if (!size || event.button !== 0) return;
    const { currentTarget: grip, clientX, clientY, pointerId } = event;
    event.preventDefault();
    grip.focus?.();
    grip.setPointerCapture(pointerId);
    const move = (next) => {
      const dx = Math.round((next.clientX - clientX) / size.width);
      const dy = Math.round((next.clientY - clientY) / size.height);
      onArrange(change(dx, dy));
    };
    const end = () => {
      grip.removeEventListener("pointermove", move);
      grip.removeEventListener("lostpointercapture", end);
    };
    grip.addEventListener("pointermove", move);
    grip.addEventListener("lostpointercapture", end);
  };
  return html`
    <div class="tile edited" style=${place(box, order)} data-type=${box.type}>
      <div class="tools">
        <button class="move" aria-label="Move ${title}" aria-describedby="board-help" onKeyDown=${key}
          onPointerDown=${(event) => drag(event, (dx, dy) => moved(boxes, box.id, dx, dy))}>✥</button>
        <span class="name" title=${title}>${title}</span>
        <button aria-label="Settings of ${title}" onClick=${onSettings}>Settings</button>
        <button aria-label="Remove ${title}" onClick=${onRemove}>×</button>
      </div>
      <p class="quiet">${kind.title} · ${box.w} × ${box.h}</p>
      <span class="corner" aria-hidden="true"
        onPointerDown=${(event) => drag(event, (dw, dh) => resized(boxes, box.id, dw, dh, kind.least))}></span>
    </div>
  `;
}
