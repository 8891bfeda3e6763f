// One value of a device: what is known of it, and what becomes of the wish to change it. No DOM, no network.

// {state: {input: next state}}; what is not in it changes nothing. Inputs: `read`: ask the device; `set`: change it;
// `done`: the device answered; `undone`: it answered that it is not as it was asked to be; `nothing`: there is no value;
// `sent`: it was given a change, and does not answer such; `failed`; `push`: it told its value by itself; `meant`: it told
// that it is as it was asked to be, after all. A change that failed stays so until there is another wish, whatever the
// device tells, for that may be older.
export const TABLE = {
  unknown: { read: "reading", set: "setting", push: "confirmed" },
  reading: { done: "confirmed", nothing: "unknown", failed: "unread", set: "setting", push: "confirmed" },
  unread: { read: "reading", set: "setting", push: "confirmed" },
  confirmed: { read: "reading", set: "setting", push: "confirmed" },
  setting: { done: "confirmed", sent: "sent", failed: "failed", set: "setting", push: "setting" },
  sent: { read: "checking", set: "setting", push: "confirmed" },
  checking: { done: "confirmed", undone: "failed", nothing: "sent", failed: "sent", set: "setting", push: "checking" },
  failed: { read: "reading", set: "setting", push: "failed", meant: "confirmed" },
};

// The states as people are told them.
export const SHOWN = {
  unknown: "unknown",
  reading: "pending",
  unread: "failed",
  confirmed: "confirmed",
  setting: "pending",
  sent: "sent",
  checking: "pending",
  failed: "failed",
};

// `known` is what the device said last, undefined if nothing; `wanted` what it was asked to be; `queued` what it shall be
// asked after that, as [value], the last wish only; `heard`: it told its value since it was asked.
export const START = Object.freeze({
  state: "unknown",
  known: undefined,
  wanted: undefined,
  queued: null,
  heard: false,
  error: null,
});

const UNDONE = "The device has not done it";
const WISHES = new Set(["setting", "sent", "checking"]);

// What a widget shows: the wish while it may yet come true, else what the device said. So a wish that fails reverts.
export function shown(model) {
  return WISHES.has(model.state) ? (model.queued ? model.queued[0] : model.wanted) : model.known;
}

export function same(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

// [the next model, what to do: null, "read" or "set" (`wanted`)]. `detail` is the value, or the error, that comes with the
// input. `check`: whether to ask the device afterwards what became of a change that it did not answer.
export function step(model, input, detail, check = true) {
  const state = TABLE[model.state][named(model, input, detail)];
  if (state === undefined) return [model, null];
    switch (input) {
    case "read":
      return [{ ...model, state, heard: false, error: null }, "read"];
    case "set":
      if (model.state === "setting") return [{ ...model, queued: [detail] }, null];
      return setting(model, detail);
    case "push":
      return [{ ...model, state, known: detail, heard: true, error: state === "confirmed" ? null : model.error }, null];
    case "done":
      if (model.queued) return setting({ ...model, known: detail }, model.queued[0]);
      return [{ ...model, state, known: detail, error: state === "failed" ? new Error(UNDONE) : null }, null];
    case "nothing":
      return [{ ...model, state }, null];
    case "sent":
      if (model.queued) return setting(model, model.queued[0]);
      if (model.heard && same(model.known, model.wanted)) return [{ ...model, state: "confirmed" }, null];
      return check ? [{ ...model, state: "checking" }, "read"] : [{ ...model, state }, null];
    default: // failed
      if (model.queued) return setting(model, model.queued[0]);
      if (model.state === "checking") return [{ ...model, state: model.heard ? "confirmed" : state }, null];
      return [{ ...model, state, error: detail }, null];
  }
}

// The input as it stands in TABLE.
function named({ state, wanted }, input, detail) {
  if (input === "done" && state === "checking" && !same(detail, wanted)) return "undone";
  if (input === "push" && state === "failed" && same(detail, wanted)) return "meant";
  return input;
}

function setting(model, wanted) {
  return [{ ...model, state: "setting", wanted, queued: null, heard: false, error: null }, "set"];
}

// A model with its requests. `read()` resolves to {value}, or null if there is none; `set(value)` to {value} as the device
// answered it, or null if it does not answer; either is given an AbortSignal, too, and rejects with an error.
// `onChange(model)`. At most one request is under way; a reading that is of no use any more is aborted.
export class Value {
  #read;
  #set;
  #onChange;
  #check;
  #request = null;

  constructor({ read, set, onChange, check = true }) {
    this.#read = read;
    this.#set = set;
    this.#onChange = onChange;
    this.#check = check;
    this.model = START;
  }

  // An input of TABLE; `done`, `sent` and `failed` come from the requests.
  input(name, detail) {
    const [model, effect] = step(this.model, name, detail, this.#check);
    if (model === this.model) return;
    this.model = model;
    if (effect) this.#run(effect);
    else if (!["reading", "setting", "checking"].includes(model.state)) this.#abort();
    this.#onChange(model);
  }

  // Nobody looks any more. A change that is under way goes on: it was asked for.
  stop() {
    this.#onChange = () => {};
    if (this.model.state !== "setting") this.#abort();
  }

  #abort() {
    this.#request?.abort();
    this.#request = null;
  }

  async #run(effect) {
    this.#abort();
    const request = (this.#request = new AbortController());
    let outcome;
    try {
      const { signal } = request;
      const answer = await (effect === "read" ? this.#read(signal) : this.#set(this.model.wanted, signal));
      outcome = answer ? ["done", answer.value] : [effect === "read" ? "nothing" : "sent"];
    } catch (error) {
      outcome = ["failed", error];
    }
    if (request !== this.#request) return;
    this.#request = null;
    this.input(...outcome);
  }
}
