// RPC remote shell: a terminal on the device, as far as the device has one.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { CommandLine, Log } from "./console_parts.js";
import { callDevice, useCallable } from "./device.js";
import { Frame } from "./frame.js";
import { Shell } from "./shell_session.js";

const STATES = { opening: "pending", running: "pending", terminating: "pending", leaving: "pending" };

export function RemoteShell({ title, deviceId, settings }) {
  const [, redraw] = useState(0);
  const session = useRef(null);
  const callable = useCallable(deviceId);
  useEffect(() => {
    const shell = (session.current = new Shell({
      call: (method, params) => callDevice(deviceId, { method, params, timeout: settings.timeout }),
      wait: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      onChange: () => redraw((count) => count + 1),
    }));
    redraw((count) => count + 1);
    return () => shell.stop();
  }, [deviceId, settings.timeout]);
  const left = useRef(false);
  useEffect(() => {
    if (callable !== false && callable !== undefined && !left.current) session.current.open();
  }, [callable, deviceId]);
  const shell = session.current;
  const state = shell?.state ?? "closed";
  const connect = () => {
    left.current = false;
    shell.open();
  };
  const run = (line) => {
    left.current = line.trim() === "exit";
    shell.run(line);
  };
  return html`
    <${Frame} ...${{ title, deviceId, state: STATES[state] ?? "idle" }} className="terminal">
      <${Log} lines=${shell?.output ?? []} label="${title}: output" />
      ${state === "closed"
        ? html`<button onClick=${connect}>Connect</button>`
        : html`
            <div class="row">
              <${CommandLine} prompt="${shell?.cwd ?? ""}$" label="${title}: command" disabled=${state !== "ready"} onRun=${run}
                onBreak=${() => shell.terminate()} />
              ${(state === "running" || state === "terminating") && html`
                <button disabled=${state === "terminating"} onClick=${() => shell.terminate()}>Terminate</button>`}
            </div>
          `}
    <//>
  `;
}
