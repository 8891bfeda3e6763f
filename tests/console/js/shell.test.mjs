// A remote shell, and a device that is spelled out reply by reply.

import assert from "node:assert/strict";
import test from "node:test";
import { LATER, Shell, SOON, TABLE } from "../../../rpcbroker/console/widgets/shell_session.js";

const INFO = { platform: "Linux", release: "6.1", cwd: "/home" };

// `replies` come in turn; an Error is thrown.
function session(...replies) {
  const asked = [];
  const waits = [];
  const shell = new Shell({
    call: async (method, params) => {
      asked.push([method, params]);
      const reply = replies.shift();
      if (reply instanceof Error) throw reply;
      return reply;
    },
    wait: async (ms) => void waits.push(ms),
    onChange: () => {},
  });
  return { shell, asked, waits, texts: () => shell.output.map(({ stream, text }) => `${stream}: ${text}`) };
}

test("every state that is reached has a row", () => {
  for (const row of Object.values(TABLE)) for (const next of Object.values(row)) assert.ok(TABLE[next]);
});

test("it asks the device who it is, which may say so as JSON text", async () => {
  for (const reply of [INFO, JSON.stringify(INFO)]) {
    const { shell, asked, texts } = session(reply);
    await shell.open();
    assert.deepEqual([shell.state, shell.cwd, texts()], ["ready", "/home", ["notice: Linux 6.1"]]);
    assert.deepEqual(asked, [["getTermInfo", null]]);
  }
});

test("a device that has no terminal leaves it closed", async () => {
  for (const reply of [{ error: "none" }, null, 7, "text", Object.assign(new Error("x"), { status: 504 })]) {
    const { shell, texts } = session(reply);
    await shell.open();
    assert.deepEqual([shell.state, texts().length], ["closed", 1]);
  }
});

test("a command is sent, and what it writes is fetched until it is done", async () => {
  const { shell, asked, waits, texts } = session(
    INFO,
    { ok: true },
    { data: [{ stdout: "one\n" }, { stderr: "two\n" }], done: false, cwd: "/home" },
    { data: [], done: false, cwd: "/home" },
    { data: [{ stdout: "three\n", stderr: "four\n" }], done: true, cwd: "/tmp" },
  );
  await shell.open();
  await shell.run("work");
  assert.deepEqual(asked.slice(1), [["sendCommand", { command: "work", cwd: "/home" }], ...Array(3).fill(["getCommandStatus", null])]);
  assert.deepEqual(waits, [SOON, LATER]);
  assert.deepEqual([shell.state, shell.cwd], ["ready", "/tmp"]);
  assert.deepEqual(texts().slice(1), ["prompt: /home$ work", "stdout: one\n", "stderr: two\n", "stdout: three\n", "stderr: four\n"]);
});

test("a command that the device does not take is told", async () => {
  const { shell, texts } = session(INFO, { error: "busy" });
  await shell.open();
  await shell.run("work");
  assert.deepEqual([shell.state, texts().at(-1)], ["ready", "notice: The device says: busy"]);
});

test("a command that runs can be ended, and its last words are fetched", async () => {
  let go;
  const waiting = new Promise((resolve) => (go = resolve));
  const replies = [{ ok: true }, { data: [], done: false }, { ok: true }, { data: [{ stderr: "bye" }], done: true }];
  const methods = [];
  const shell = new Shell({
    call: async (method) => (methods.push(method), method === "getTermInfo" ? INFO : replies.shift()),
    wait: () => waiting,
    onChange: () => {},
  });
  await shell.open();
  await shell.terminate(); // nothing runs: nothing is asked
  const ran = shell.run("sleep");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(shell.state, "running");
  await shell.terminate();
  assert.equal(shell.state, "running");
  go();
  await ran;
  assert.deepEqual(methods, ["getTermInfo", "sendCommand", "getCommandStatus", "terminateCommand", "getCommandStatus"]);
  assert.deepEqual([shell.state, shell.output.at(-1).text], ["ready", "bye"]);
});

test("exit ends the session", async () => {
  const { shell, asked } = session(INFO, { ok: true }, INFO);
  await shell.open();
  await shell.run(" exit ");
  assert.deepEqual([shell.state, asked.at(-1)], ["closed", ["sendCommand", { command: "exit", cwd: "/home" }]]);
  await shell.open();
  assert.equal(shell.state, "ready");
});

test("one command runs at a time, and none before it is open", async () => {
  const { shell, asked } = session(INFO);
  await shell.run("early");
  assert.deepEqual(asked, []);
});

test("whatever a device writes is taken, and bounded", async () => {
  const junk = [null, 7, {}, { stdout: null }, { stdout: { a: 1 } }, { stdout: "x".repeat(200_000) }];
  const { shell } = session(INFO, { ok: true }, { data: junk, done: false, cwd: 7 }, null, { data: "no", done: true });
  await shell.open();
  await shell.run("junk");
  assert.deepEqual([shell.state, shell.cwd], ["ready", "/home"]);
  assert.deepEqual(shell.output.slice(2).map(({ text }) => text.length), ["null".length, "[object Object]".length, 100_000]);
});
