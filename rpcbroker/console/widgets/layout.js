// How widgets lie on a board: boxes {id, x, y, w, h} in cells of a grid that is 12 wide and as high as it must be.

export const COLUMNS = 12;
export const MAX_ROWS = 500;
const MAX_HEIGHT = 30;

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const meet = (one, other) =>
  one.x < other.x + other.w && other.x < one.x + one.w && one.y < other.y + other.h && other.y < one.y + one.h;

// From above to below, from left to right: the order in which they are read, and shown on a phone.
export function inOrder(boxes) {
  return [...boxes].sort((one, other) => one.y - other.y || one.x - other.x);
}

// A box that lies in the grid, whatever it says of itself.
export function fitted(box, [leastWidth, leastHeight]) {
  const whole = (value, other) => (Number.isInteger(value) ? value : other);
  const w = clamp(whole(box.w, leastWidth), leastWidth, COLUMNS);
  const h = clamp(whole(box.h, leastHeight), leastHeight, MAX_HEIGHT);
  return { ...box, w, h, x: clamp(whole(box.x, 0), 0, COLUMNS - w), y: clamp(whole(box.y, 0), 0, MAX_ROWS) };
}

// The same without any that lie on one another: who is in the way of a box that comes before makes room downwards.
// The box `first` stays where it is.
export function apart(boxes, first = null) {
  const placed = [];
  const rest = inOrder(boxes).sort((one, other) => (other.id === first) - (one.id === first));
  for (const box of rest) {
    let { y } = box;
    for (;;) {
      const hit = placed.find((other) => meet({ ...box, y }, other));
      if (!hit) break;
      y = hit.y + hit.h;
    }
    placed.push(y === box.y ? box : { ...box, y });
  }
  return inOrder(placed);
}

// With the box of this id moved by cells.
export function moved(boxes, id, dx, dy) {
  return changed(boxes, id, (box) => ({
    x: clamp(box.x + dx, 0, COLUMNS - box.w),
    y: clamp(box.y + dy, 0, MAX_ROWS),
  }));
}

// With it larger, or smaller, by cells, but not smaller than `least`.
export function resized(boxes, id, dw, dh, [leastWidth, leastHeight]) {
  return changed(boxes, id, (box) => ({
    w: clamp(box.w + dw, leastWidth, COLUMNS - box.x),
    h: clamp(box.h + dh, leastHeight, MAX_HEIGHT),
  }));
}

function changed(boxes, id, change) {
  return apart(
    boxes.map((box) => (box.id === id ? { ...box, ...change(box) } : box)),
    id,
  );
}

// {x, y} of the first free place for a box of this size.
export function freePlace(boxes, [w, h]) {
  for (let y = 0; ; y++) {
    for (let x = 0; x + w <= COLUMNS; x++) {
      if (!boxes.some((box) => meet({ x, y, w, h }, box))) return { x, y };
    }
  }
}
