// RPC debug terminal: calls that are typed, and what the device says.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { telling, typed } from "./answers.js";
import { callDevice } from "./device.js";
import { Frame } from "./frame.js";
import { CommandLine, Log } from "./console_parts.js";

const MOST = 500; // lines that are kept
const LONGEST = 100_000; // characters of one that are shown
const HELP = "Type a method and its params, such as: setValue 5. Params are JSON, or text if they are none.";

export function Terminal({ title, deviceId, settings }) {
  const [lines, setLines] = useState([{ stream: "notice", text: HELP }]);
  const [busy, setBusy] = useState(false);
  const mounted = useRef(true);
  useEffect(() => () => (mounted.current = false), []);
  const write = (stream, text) => {
    if (mounted.current) setLines((old) => [...old, { stream, text: text.slice(0, LONGEST) }].slice(-MOST));
  };
  const run = async (line) => {
    const call = typed(line);
    if (!call) return;
    if (call.method === "clear" && call.params === undefined) return setLines([]);
    write("prompt", `> ${line}`);
    setBusy(true);
    try {
      const { oneway, timeout } = settings;
      const reply = await callDevice(deviceId, { ...call, oneway, timeout });
      write("stdout", oneway ? "sent" : JSON.stringify(reply, null, 2));
    } catch (error) {
      const { text, hint } = telling(error);
      write("stderr", hint ? `${text}. ${hint}` : text);
    }
    if (mounted.current) setBusy(false);
  };
  return html`
    <${Frame} ...${{ title, deviceId, state: busy ? "pending" : "idle" }} className="terminal">
      <${Log} lines=${lines} label="${title}: output" />
      <${CommandLine} prompt=">" label="${title}: method and params" disabled=${busy} onRun=${run} />
    <//>
  `;
}
