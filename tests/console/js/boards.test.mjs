// Boards: how widgets lie, what can be set of them, and what is read of what is kept.

import assert from "node:assert/strict";
import test from "node:test";
import { added, body, MOST, opened } from "../../../rpcbroker/console/widgets/boards.js";
import { kindOf, KINDS } from "../../../rpcbroker/console/widgets/kinds.js";
import { apart, COLUMNS, fitted, freePlace, inOrder, moved, resized } from "../../../rpcbroker/console/widgets/layout.js";
import { settled, typedSettings, written } from "../../../rpcbroker/console/widgets/settings.js";

const box = (id, x, y, w = 2, h = 2) => ({ id, x, y, w, h });
const at = (boxes) => Object.fromEntries(boxes.map(({ id, x, y }) => [id, [x, y]]));

function meet(boxes) {
  return boxes.some((one) =>
    boxes.some((two) => one !== two && one.x < two.x + two.w && two.x < one.x + one.w && one.y < two.y + two.h && two.y < one.y + one.h),
  );
}

test("boxes that lie on one another make room downwards", () => {
  assert.deepEqual(at(apart([box("a", 0, 0), box("b", 1, 1), box("c", 4, 0)])), { a: [0, 0], c: [4, 0], b: [1, 2] });
});

test("what is moved stays where it is moved to, and the others make room", () => {
  const boxes = [box("a", 0, 0), box("b", 0, 2), box("c", 0, 4)];
  assert.deepEqual(at(moved(boxes, "c", 0, -4)), { c: [0, 0], a: [0, 2], b: [0, 4] });
  assert.deepEqual(at(moved(boxes, "a", 2, 0)), { a: [2, 0], b: [0, 2], c: [0, 4] });
});

test("nothing leaves the board or gets smaller than it can be", () => {
  const boxes = [box("a", 0, 0)];
  assert.deepEqual(at(moved(boxes, "a", -5, -5)), { a: [0, 0] });
  assert.deepEqual(at(moved(boxes, "a", 50, 0)), { a: [COLUMNS - 2, 0] });
  const [small] = resized(boxes, "a", -9, -9, [1, 2]);
  assert.deepEqual([small.w, small.h], [1, 2]);
  const [large] = resized(boxes, "a", 99, 99, [1, 1]);
  assert.deepEqual([large.w, large.h], [COLUMNS, 30]);
});

test("whatever is done to boxes none lies on another", () => {
  let seed = 7;
  const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
  let boxes = Array.from({ length: 25 }, (_, id) => fitted(box(`${id}`, random(20), random(20), random(9), random(9)), [1, 1]));
  for (let turn = 0; turn < 300; turn++) {
    const id = `${random(25)}`;
    const by = [random(9) - 4, random(9) - 4];
    boxes = turn % 2 ? moved(boxes, id, ...by) : resized(boxes, id, ...by, [1, 1]);
    assert.ok(!meet(boxes) && boxes.length === 25 && boxes.every(({ x, w }) => x >= 0 && x + w <= COLUMNS));
  }
});

test("a place that is no place is made one", () => {
  for (const broken of [{}, { x: -1, y: -5, w: 0, h: 0 }, { x: 99, y: 1e9, w: 1e9, h: 1e9 }, { x: "1", y: null, w: NaN, h: 1.5 }]) {
    const { x, y, w, h } = fitted(broken, [2, 3]);
    assert.ok(x >= 0 && x + w <= COLUMNS && y >= 0 && y <= 500 && w >= 2 && h >= 3 && h <= 30);
  }
});

test("a new widget takes the first place that is free", () => {
  assert.deepEqual(freePlace([], [3, 3]), { x: 0, y: 0 });
  assert.deepEqual(freePlace([box("a", 0, 0, 11, 1)], [2, 1]), { x: 0, y: 1 });
  assert.deepEqual(freePlace([box("a", 0, 0, 4, 9)], [3, 3]), { x: 4, y: 0 });
  const boxes = KINDS.reduce((all, kind) => added(all, kind, kind.type), []);
  assert.ok(!meet(boxes) && boxes.length === KINDS.length);
});

test("they are read from above to below and from left to right", () => {
  assert.deepEqual(inOrder([box("c", 0, 2), box("b", 4, 0), box("a", 0, 0)]).map(({ id }) => id), ["a", "b", "c"]);
});

test("a board is opened as it was kept", () => {
  const boxes = added(added([], kindOf("knob"), "1"), kindOf("led"), "2");
  const draft = { title: " mine ", deviceId: "d", customerId: null, boxes };
  const sent = body(draft, 4);
  assert.deepEqual([sent.title, sent.deviceId, sent.customerId, sent.version], ["mine", { entityType: "DEVICE", id: "d" }, null, 4]);
  assert.deepEqual(opened({ ...sent, customerId: { id: "13814000-1dd2-11b2-8080-808080808080" } }), { ...draft, title: "mine" });
});

test("what is wrong on a board is left out, or put right", () => {
  const widgets = Array.from({ length: 3 * MOST }, (_, n) => ({ id: `${n >> 1}`, type: "constructor", settings: {}, x: 0, y: 0, w: 1, h: 1 }));
  const { boxes } = opened({ title: "", deviceId: null, customerId: null, content: { widgets } });
  assert.equal(boxes.length, MOST);
  assert.ok(!meet(boxes));
});

// -- settings

test("every widget has a row of its own that makes sense", () => {
  assert.equal(new Set(KINDS.map(({ type }) => type)).size, KINDS.length);
  for (const { type, size, least, settings } of KINDS) {
    assert.ok(size[0] >= least[0] && size[1] >= least[1] && size[0] <= COLUMNS, type);
    assert.equal(new Set(settings.map(({ name }) => name)).size, settings.length, type);
  }
});

test("settings are typed as they are written", () => {
  for (const { type, settings } of KINDS) {
    const usual = settled(settings, {});
    assert.deepEqual(typedSettings(settings, written(settings, usual)), { settings: usual, errors: {} }, type);
  }
});

test("stored settings that are none are as if they were not there", () => {
  const fields = kindOf("knob").settings;
  const usual = settled(fields, {});
  const bad = { source: "elsewhere", getMethod: "", twoway: "yes", timeout: -1, least: "0", step: 0, pollingInterval: 1.5, x: 1 };
  for (const stored of [bad, null, undefined, 7, "x", { __proto__: { unit: "°C" } }, { least: 100, most: 0 }]) {
    assert.deepEqual(settled(fields, stored), usual);
  }
  const pins = kindOf("gpio_panel").settings;
  for (const bad of [[null], [[]], [7], [{ pin: 1 }], [{ pin: "1", label: "" }], {}, null]) {
    assert.deepEqual(settled(pins, { pins: bad }), settled(pins, {}));
  }
  assert.deepEqual(settled(fields, { unit: "°C", most: 30 }), { ...usual, unit: "°C", most: 30 });
});

test("what is typed wrong is told at its field", () => {
  const fields = kindOf("knob").settings;
  const usual = written(fields, settled(fields, {}));
  const wrong = (typed) => typedSettings(fields, { ...usual, ...typed }).errors;
  assert.match(wrong({ least: "x" }).least, /a number/);
  assert.match(wrong({ least: "5", most: "5" }).most, /above the lowest/);
  assert.match(wrong({ step: "0" }).step, /above 0/);
  assert.match(wrong({ timeout: "1.5" }).timeout, /whole/);
  assert.match(wrong({ getMethod: " " }).getMethod, /empty/);
  assert.match(wrong({ setMethod: "x".repeat(256) }).setMethod, /255/);
  assert.match(typedSettings(kindOf("switch").settings, { ...usual, onValue: "on" }).errors.onValue, /JSON/);
});

test("params that are no JSON are text where that is meant", () => {
  const fields = kindOf("button").settings;
  const typed = { ...written(fields, settled(fields, {})), params: "now" };
  assert.equal(typedSettings(fields, typed).settings.params, "now");
});

test("pins are typed as a list, each with its name if it has one", () => {
  const fields = kindOf("gpio_panel").settings;
  const read = (pins) => typedSettings(fields, { layout: "basic", pins });
  assert.deepEqual(read("7, 11 = Lamp ,12=").settings.pins, [
    { pin: 7, label: "" },
    { pin: 11, label: "Lamp" },
    { pin: 12, label: "" },
  ]);
  for (const wrong of ["", "x", "7 = a, b", "-1", "1001", "1.5", "12345"]) assert.ok(read(wrong).errors.pins, wrong);
});
