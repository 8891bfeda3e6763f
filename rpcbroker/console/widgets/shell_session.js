// A remote shell on a device, as ThingsBoard's widget speaks to it. No DOM.

import { accepted, parsed, telling } from "./answers.js";

export const METHODS = {
  info: "getTermInfo",
  send: "sendCommand",
  status: "getCommandStatus",
  terminate: "terminateCommand",
};
export const SOON = 200; // ms until the device is asked again what a command has written
export const LATER = 1_000; // if it had written nothing
const MOST = 2_000; // pieces of output that are kept
const LONGEST = 100_000; // characters of one that are shown

// {state: {input: next state}}
export const TABLE = {
  closed: { open: "opening" },
  opening: { opened: "ready", failed: "closed" },
  ready: { run: "running", leave: "leaving" },
  running: { done: "ready", failed: "ready", terminate: "terminating" },
  terminating: { told: "running", done: "ready", failed: "ready" },
  leaving: { left: "closed", failed: "ready" },
};

// One session. `call(method, params)` resolves to the reply; `wait(ms)` resolves after that time; `onChange()` when
// `state`, `cwd` or `output`, a list of {stream, text}, have changed; streams are stdout, stderr, prompt and notice.
export class Shell {
  #call;
  #wait;
  #onChange;
  #stopped = false;

  constructor({ call, wait, onChange }) {
    this.#call = call;
    this.#wait = wait;
    this.#onChange = onChange;
    this.state = "closed";
    this.info = null;
    this.cwd = "";
    this.output = [];
  }

  stop() {
    this.#stopped = true;
    this.#onChange = () => {};
  }

  // Asks the device who it is.
  async open() {
    if (!this.#go("open")) return;
    try {
      let info = accepted(await this.#call(METHODS.info, null));
      if (typeof info === "string") info = accepted(parsed(info));
      if (typeof info !== "object" || info === null) throw new Error("The device's reply does not describe a terminal");
      this.info = { platform: String(info.platform ?? ""), release: String(info.release ?? "") };
      this.cwd = String(info.cwd ?? "");
      this.#write("notice", `${this.info.platform} ${this.info.release}`.trim());
      this.#go("opened");
    } catch (error) {
      this.#failed(error);
    }
  }

  // Runs a command, and fetches what it writes until it has ended. `exit` ends the session.
  async run(command) {
    if (command.trim() === "exit") return this.#leave(command);
    if (!this.#go("run")) return;
    this.#prompt(command);
    try {
      accepted(await this.#call(METHODS.send, { command, cwd: this.cwd }));
      while (!this.#stopped) {
        const { data, done, cwd } = accepted(await this.#call(METHODS.status, null)) ?? {};
        const pieces = Array.isArray(data) ? data : [];
        for (const piece of pieces) this.#print(piece);
        if (typeof cwd === "string") this.cwd = cwd;
        if (done) break;
        this.#onChange();
        await this.#wait(pieces.length ? SOON : LATER);
      }
      this.#go("done");
    } catch (error) {
      this.#failed(error);
    }
  }

  // Asks the device to end the command that runs.
  async terminate() {
    if (!this.#go("terminate")) return;
    try {
      accepted(await this.#call(METHODS.terminate, null));
    } catch (error) {
      this.#write("notice", telling(error).text);
    }
    if (this.state === "terminating") this.#go("told");
  }

  async #leave(command) {
    if (!this.#go("leave")) return;
    this.#prompt(command);
    try {
      accepted(await this.#call(METHODS.send, { command: "exit", cwd: this.cwd }));
      this.#write("notice", "The session has ended.");
      this.#go("left");
    } catch (error) {
      this.#failed(error);
    }
  }

  #go(input) {
    const next = TABLE[this.state][input];
    if (next === undefined || this.#stopped) return false;
    this.state = next;
    this.#onChange();
    return true;
  }

  #failed(error) {
    const { text, hint } = telling(error);
    this.#write("notice", hint ? `${text}. ${hint}` : text);
    this.#go("failed");
  }

  #prompt(command) {
    this.#write("prompt", `${this.cwd}$ ${command}`);
  }

  #print(piece) {
    if (typeof piece !== "object" || piece === null) return;
    for (const stream of ["stdout", "stderr"]) {
      if (piece[stream] !== undefined) this.#write(stream, String(piece[stream]));
    }
  }

  #write(stream, text) {
    this.output = [...this.output, { stream, text: text.slice(0, LONGEST) }].slice(-MOST);
    this.#onChange();
  }
}
