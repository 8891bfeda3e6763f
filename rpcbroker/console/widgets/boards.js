// Boards as they are kept, and as they are worked with. No DOM.

import { kindOf } from "./kinds.js";
import { apart, fitted, freePlace } from "./layout.js";
import { settled } from "./settings.js";

export const MOST = 100; // widgets of a board
const LEAST = [2, 2]; // cells of a widget whose type is not known
const NOBODY = "13814000-1dd2-11b2-8080-808080808080"; // ThingsBoard's id of no customer

// {title, deviceId, customerId, boxes}: a board with nothing on it.
export const EMPTY = Object.freeze({ title: "New board", deviceId: null, customerId: null, boxes: [] });

// The same of a board that the API gave. Boxes are {id, type, title, deviceId, settings, x, y, w, h}, none of which lies on
// another; what is on a board may come from another console, and is read with care.
export function opened({ title, deviceId, customerId, content }) {
  const ids = new Set();
  const boxes = content.widgets
    .filter(({ id }) => !ids.has(id) && ids.add(id))
    .slice(0, MOST)
    .map((widget) => fitted(widget, kindOf(widget.type)?.least ?? LEAST));
  return {
    title,
    deviceId: deviceId?.id ?? null,
    customerId: customerId && customerId.id !== NOBODY ? customerId.id : null,
    boxes: apart(boxes),
  };
}

// As the API takes it; `version` is that of the board which it takes the place of.
export function body({ title, deviceId, customerId, boxes }, version) {
  return {
    title: title.trim(),
    deviceId: deviceId && { entityType: "DEVICE", id: deviceId },
    customerId: customerId && { entityType: "CUSTOMER", id: customerId },
    content: { widgets: boxes },
    version,
  };
}

// With one more widget, of this kind, in the first place that is free.
export function added(boxes, kind, id) {
  const [w, h] = kind.size;
  const box = { id, type: kind.type, title: kind.title, deviceId: null, settings: settled(kind.settings, {}), w, h };
  return apart([...boxes, { ...box, ...freePlace(boxes, kind.size) }]);
}
