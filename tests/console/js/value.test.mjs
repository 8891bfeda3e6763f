// One value of a device: every way that its state may go.

import assert from "node:assert/strict";
import test from "node:test";
import { SHOWN, START, TABLE, Value, shown, step } from "../../../rpcbroker/console/widgets/value.js";

// The model after inputs: "read", ["set", 5], ...
function after(...inputs) {
  let model = START;
  for (const input of inputs) [model] = step(model, ...[input].flat());
  return model;
}

function look(model) {
  return [model.state, shown(model)];
}

test("every state that is reached has a row and is told to people", () => {
  for (const row of Object.values(TABLE)) {
    for (const next of Object.values(row)) assert.ok(TABLE[next] && SHOWN[next]);
  }
});

test("what comes when nobody waits for it changes nothing", () => {
  for (const [state, row] of Object.entries(TABLE)) {
    for (const input of ["read", "set", "done", "nothing", "sent", "failed", "push"].filter((each) => !(each in row))) {
      const model = { ...START, state };
      assert.deepEqual(step(model, input, 1), [model, null]);
    }
  }
});

test("a value is unknown until the device says it", () => {
  assert.deepEqual(look(START), ["unknown", undefined]);
  assert.deepEqual(look(after("read")), ["reading", undefined]);
  assert.deepEqual(look(after("read", ["done", 5])), ["confirmed", 5]);
  assert.deepEqual(look(after(["push", 5])), ["confirmed", 5]);
});

test("a reading that fails is said, and the last value stays", () => {
  const model = after(["push", 5], "read", ["failed", "no"]);
  assert.deepEqual([...look(model), model.error], ["unread", 5, "no"]);
  assert.equal(step(model, "read")[0].error, null);
});

test("a change shows at once, and reverts when it fails", () => {
  const model = after(["push", 1], ["set", 2]);
  assert.deepEqual(look(model), ["setting", 2]);
  const failed = step(model, "failed", "no")[0];
  assert.deepEqual([...look(failed), failed.error], ["failed", 1, "no"]);
});

test("a change that fails reverts to what the device said meanwhile", () => {
  assert.deepEqual(look(after(["push", 1], ["set", 2], ["push", 3])), ["setting", 2]);
  assert.deepEqual(look(after(["push", 1], ["set", 2], ["push", 3], ["failed", "no"])), ["failed", 3]);
});

test("a change that failed stays so, whatever is heard, until the device is as it was asked to be", () => {
  const failed = after(["push", 1], ["set", 2], ["failed", "no"]);
  const heard = step(failed, "push", 3)[0];
  assert.deepEqual([...look(heard), heard.error], ["failed", 3, "no"]);
  const late = step(heard, "push", 2)[0];
  assert.deepEqual([...look(late), late.error], ["confirmed", 2, null]);
  assert.deepEqual(look(step(heard, "set", 4)[0]), ["setting", 4]);
  assert.deepEqual(look(step(heard, "read")[0]), ["reading", 3]);
});

test("a reading that failed is made good by what is heard", () => {
  assert.deepEqual(look(after("read", ["failed", "no"], ["push", 3])), ["confirmed", 3]);
});

test("a change that the device answered is confirmed as it answered", () => {
  assert.deepEqual(look(after(["set", 2], ["done", 2])), ["confirmed", 2]);
  assert.deepEqual(look(after(["set", true], ["done", false])), ["confirmed", false]);
});

test("of changes while one is under way the last one follows, whether the first went well or not", () => {
  for (const end of [["done", 1], "sent", ["failed", "no"]]) {
    const model = after(["set", 1], ["set", 2], ["set", 3]);
    assert.deepEqual([...look(model), model.wanted], ["setting", 3, 1]);
    const [next, effect] = step(model, ...[end].flat());
    assert.deepEqual([next.state, next.wanted, next.queued, effect], ["setting", 3, null, "set"]);
  }
});

test("a change that is not answered is checked by reading", () => {
  const [model, effect] = step(after(["push", 1], ["set", 2]), "sent");
  assert.deepEqual([...look(model), effect], ["checking", 2, "read"]);
  assert.deepEqual(look(step(model, "done", 2)[0]), ["confirmed", 2]);
  assert.deepEqual(look(step(model, "failed", "no")[0]), ["sent", 2]);
  const undone = step(model, "done", 1)[0];
  assert.deepEqual([...look(undone), undone.error.message], ["failed", 1, "The device has not done it"]);
});

test("or is not, and then it is sent and no more, until the device tells", () => {
  const [model, effect] = step(after(["set", 2]), "sent", undefined, false);
  assert.deepEqual([...look(model), effect], ["sent", 2, null]);
  assert.deepEqual(look(step(model, "push", 3)[0]), ["confirmed", 3]);
});

test("a change that the device told of before the request ended needs no check", () => {
  const [model, effect] = step(after(["set", { a: 2 }], ["push", { a: 2 }]), "sent");
  assert.deepEqual([...look(model), effect], ["confirmed", { a: 2 }, null]);
});

test("an older value that is told while a change is checked does not win", () => {
  const model = after(["push", 1], ["set", 2], "sent", ["push", 1]);
  assert.deepEqual(look(model), ["checking", 2]);
  assert.deepEqual(look(step(model, "done", 2)[0]), ["confirmed", 2]);
  assert.deepEqual(look(step(model, "failed", "no")[0]), ["confirmed", 1]);
});

// -- with requests

function harness(options = {}) {
  const asked = [];
  const request = (what) => (...given) => {
    const signal = given.pop();
    return new Promise((resolve, reject) => asked.push({ what, given, signal, resolve, reject }));
  };
  const states = [];
  const value = new Value({
    read: request("read"),
    set: request("set"),
    onChange: (model) => states.push(model.state),
    ...options,
  });
  return { asked, states, value };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("it reads, sets, and checks what it set", async () => {
  const { asked, states, value } = harness();
  value.input("read");
  asked[0].resolve({ value: 1 });
  await settled();
  value.input("set", 2);
  asked[1].resolve(null);
  await settled();
  asked[2].resolve({ value: 2 });
  await settled();
  assert.deepEqual(asked.map(({ what, given }) => [what, ...given]), [["read"], ["set", 2], ["read"]]);
  assert.deepEqual(states, ["reading", "confirmed", "setting", "checking", "confirmed"]);
  assert.equal(shown(value.model), 2);
});

test("a change does not wait for a reading, whose answer comes too late", async () => {
  const { asked, value } = harness({ check: false });
  value.input("read");
  value.input("set", 2);
  assert.ok(asked[0].signal.aborted);
  asked[0].resolve({ value: 1 });
  await settled();
  assert.equal(value.model.state, "setting");
  asked[1].resolve(null);
  await settled();
  assert.deepEqual(look(value.model), ["sent", 2]);
});

test("one change is under way at a time", async () => {
  const { asked, value } = harness({ check: false });
  for (const wanted of [1, 2, 3]) value.input("set", wanted);
  assert.equal(asked.length, 1);
  asked[0].resolve({ value: 1 });
  await settled();
  assert.deepEqual(asked.map(({ given }) => given), [[1], [3]]);
});

test("a push ends a reading", async () => {
  const { asked, value } = harness();
  value.input("read");
  value.input("push", 7);
  assert.ok(asked[0].signal.aborted);
  asked[0].reject(new Error("aborted"));
  await settled();
  assert.deepEqual(look(value.model), ["confirmed", 7]);
});

test("where there is no value it stays unknown", async () => {
  const { asked, value } = harness();
  value.input("read");
  asked[0].resolve(null);
  await settled();
  assert.deepEqual(look(value.model), ["unknown", undefined]);
});

test("stopped it reads nothing more and tells nobody", async () => {
  const { asked, states, value } = harness();
  value.input("read");
  value.stop();
  assert.ok(asked[0].signal.aborted);
  assert.deepEqual(states, ["reading"]);
});

test("but a change that is under way goes on", async () => {
  const { asked, states, value } = harness({ check: false });
  value.input("set", 1);
  value.stop();
  assert.ok(!asked[0].signal.aborted);
  asked[0].resolve(null);
  await settled();
  assert.deepEqual([states, asked.length], [["setting"], 1]);
});
