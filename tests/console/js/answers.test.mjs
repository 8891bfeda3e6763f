// What answers mean, pins, and numbers.

import assert from "node:assert/strict";
import test from "node:test";
import { accepted, DeviceError, outcomeOf, telling, typed } from "../../../rpcbroker/console/widgets/answers.js";
import { HEADER, isOn, labelOf, statusOf } from "../../../rpcbroker/console/widgets/gpio.js";
import { angleOf, numberOf, rounded, stepped, valueAt } from "../../../rpcbroker/console/widgets/scale.js";

test("a reply with an error member is a failure", () => {
  for (const error of ["it is stuck", "", 0, { code: 5 }]) assert.throws(() => accepted({ error }), DeviceError);
  assert.throws(() => accepted({ error: { code: 5 } }), /{"code":5}/);
});

test("any other reply is none", () => {
  for (const reply of [null, false, 0, "error", [], { error: null }, { error: false }, { ok: true }]) {
    assert.equal(accepted(reply), reply);
  }
});

test("failures are told in ThingsBoard's words, and with our hint", () => {
  const error = (status) => Object.assign(new Error("no"), { status, hint: "do this" });
  assert.deepEqual(telling(error(504)), { text: "Request timeout", hint: "do this" });
  assert.deepEqual(telling(error(403)), { text: "Error : 403 - no", hint: "do this" });
  assert.deepEqual(telling(new Error("no")), { text: "no", hint: null });
  assert.deepEqual(telling(new DeviceError("it is stuck")), { text: "The device says: it is stuck", hint: null });
});

test("what became of a persistent call is read from its state", () => {
  const of = (status, oneway, response = null) => outcomeOf({ status, response, request: { oneway } });
  for (const oneway of [true, false]) {
    assert.equal(of("QUEUED", oneway), null);
    assert.equal(of("SENT", oneway), null);
    assert.deepEqual(of("SUCCESSFUL", oneway, 5), { reply: 5 });
    assert.equal(of("TIMEOUT", oneway).error.status, 504);
    assert.equal(of("EXPIRED", oneway).error.status, 504);
    assert.equal(of("FAILED", oneway, { error: "why" }).error.message, "why");
    assert.equal(of("FAILED", oneway).error.status, 502);
    assert.equal(of("DELETED", oneway).error.status, 502);
  }
  assert.deepEqual(of("DELIVERED", true), { reply: null });
  assert.equal(of("DELIVERED", false), null);
});

test("a line of the terminal is a method and params: JSON, text, or none", () => {
  const lines = {
    getValue: { method: "getValue", params: undefined },
    "  setValue  5 ": { method: "setValue", params: 5 },
    "setValue true": { method: "setValue", params: true },
    'set {"a": [1, 2]}': { method: "set", params: { a: [1, 2] } },
    "say hello you": { method: "say", params: "hello you" },
    'say "5"': { method: "say", params: "5" },
  };
  for (const [line, call] of Object.entries(lines)) assert.deepEqual(typed(line), call);
  for (const line of ["", "   "]) assert.equal(typed(line), null);
});

test("a pin is on if the reply says true, and nothing else", () => {
  const on = statusOf({ 1: true, 2: "true", 3: 1, 4: false });
  assert.deepEqual([1, 2, 3, 4, 5].map(on), [true, false, false, false, false]);
  for (const reply of [null, true, "{}", [true], 7]) assert.throws(() => statusOf(reply), /no map of pins/);
  assert.throws(() => statusOf({ error: "no such pin" }), DeviceError);
});

test("telemetry may say it as text", () => {
  assert.deepEqual([true, "true", "1", 1, false, null].map(isOn), [true, true, false, false, false, false]);
});

test("pins have the names of a Raspberry Pi on its layout", () => {
  assert.equal(HEADER.length, 40);
  assert.equal(labelOf({ pin: 11, label: "" }, "raspberry"), "GPIO 17");
  assert.equal(labelOf({ pin: 11, label: "" }, "basic"), "GPIO 11");
  assert.equal(labelOf({ pin: 99, label: "" }, "raspberry"), "GPIO 99");
  assert.equal(labelOf({ pin: 11, label: "Lamp" }, "raspberry"), "Lamp");
});

test("numbers may come as text, and nothing else is one", () => {
  assert.deepEqual([5, "5.5", " 7 ", 0].map(numberOf), [5, 5.5, 7, 0]);
  for (const raw of [null, true, "", "five", NaN, Infinity, {}, [5], undefined]) assert.throws(() => numberOf(raw), /no number/);
});

test("a value is a whole number of steps above the least, and not above the most", () => {
  const scale = { least: -1, most: 1, step: 0.3 };
  assert.deepEqual([-9, -0.8, 0, 0.9, 9].map((value) => rounded(value, scale)), [-1, -0.7, -0.1, 0.8, 0.8]);
  assert.equal(stepped(0.1, 2, { least: 0, most: 1, step: 0.1 }), 0.3);
});

test("a knob turns from left below over the top to right below", () => {
  const scale = { least: 0, most: 100, step: 1 };
  assert.deepEqual([0, 50, 100, 200].map((value) => angleOf(value, scale)), [-135, 0, 135, 135]);
  assert.deepEqual([-135, 0, 135, 179, -179].map((angle) => valueAt(angle, scale)), [0, 50, 100, 100, 0]);
});
