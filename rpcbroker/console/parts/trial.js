// A message to try in a rule chain, without effects; its path is lit step by step.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { Check, Field } from "./field.js";
import { checkJson, Json, JsonField } from "./json.js";
import { Failed } from "./load.js";
import { duration } from "./time.js";

const PACE = 450; // ms from step to step

// Messages by what people call them: [name, words, type]. A method and params make the data of the first ones.
const KINDS = [
  ["call", "A call to the device", "RPC_CALL_FROM_SERVER_TO_DEVICE"],
  ["ask", "A question of the device", "TO_SERVER_RPC_REQUEST"],
  ["telemetry", "Telemetry of the device", "POST_TELEMETRY_REQUEST"],
  ["attributes", "Attributes of the device", "POST_ATTRIBUTES_REQUEST"],
  ["other", "Another type", ""],
];
const METHODS = ["call", "ask"];

// `onLit(lit)` hears what is to be lit in the drawing of the chain, null for nothing.
export function Trial({ chainId, metadata, onLit }) {
  const [given, setGiven] = useState({ kind: "call", method: "getValue", params: "", data: "{}", type: "", info: "", name: "device", deviceType: "default", reply: "{}", offline: false });
  const [path, setPath] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const set = (name) => (value) => setGiven({ ...given, [name]: value });
  const asks = METHODS.includes(given.kind);
  const json = Object.fromEntries(["params", "data", "info", "reply"].map((name) => [name, checkJson(given[name])]));
  const wrong = Object.values(json).some((each) => each.error);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    setPath(null);
    try {
      setPath(await request("POST", `/api/ruleChain/${chainId}/test`, { body: messageOf(given, json) }));
    } catch (failed) {
      setError(failed);
    }
    setBusy(false);
  };
  useEffect(() => {
    if (path === null) onLit(null);
  }, [path]);
  return html`
    <section class="card">
      <h2>Test a message</h2>
      <form class="form" onSubmit=${send}>
        <div class="fields">
          <${Field} label="Message" type="select" value=${given.kind} onInput=${set("kind")} options=${KINDS} />
          ${asks && html`<${Field} label="Method" required value=${given.method} onInput=${set("method")} autocomplete="off" />`}
          ${given.kind === "other" && html`<${Field} label="Type" required value=${given.type} onInput=${set("type")} placeholder="CONNECT_EVENT" autocomplete="off" />`}
        </div>
        ${asks
          ? html`<${JsonField} label="Params" rows="2" value=${given.params} onInput=${set("params")} />`
          : html`<${JsonField} label="Data" rows="3" value=${given.data} onInput=${set("data")} />`}
        <details>
          <summary>What the message finds</summary>
          <div class="form">
            <div class="fields">
              <${Field} label="Name of the device" value=${given.name} onInput=${set("name")} autocomplete="off" />
              <${Field} label="Type of the device" value=${given.deviceType} onInput=${set("deviceType")} autocomplete="off" />
            </div>
            <${JsonField} label="What the device replies" rows="2" value=${given.reply} onInput=${set("reply")} />
            <${Check} label="The device is offline" checked=${given.offline} onInput=${set("offline")} />
            <${JsonField} label="Metadata" rows="2" value=${given.info} onInput=${set("info")} hint="An object of texts; what the type needs is added." />
          </div>
        </details>
        <div class="row">
          <button class="primary" disabled=${busy || wrong}>${busy ? "On its way…" : "Test"}</button>
          <span class="quiet">Nothing is called, saved or sent: what would have been is told. Scripts run.</span>
        </div>
      </form>
      ${error && html`<${Failed} error=${error} />`}
      ${path && html`<${Told} path=${path} ...${{ chainId, metadata, onLit }} />`}
    </section>
  `;
}

// The body of the request.
function messageOf(given, json) {
  const type = KINDS.find(([kind]) => kind === given.kind)[2] || given.type;
  const { params, data, info, reply } = json;
  const datas = {
    call: { method: given.method, params: JSON.stringify(params.value) },
    ask: { method: given.method, params: params.value },
  };
  return {
    type,
    data: datas[given.kind] ?? data.value ?? {},
    metadata: info.value ?? {},
    originator: { name: given.name, type: given.deviceType },
    reply: reply.value,
    offline: given.offline,
  };
}

function Told({ path, chainId, metadata, onLit }) {
  const [upTo, setUpTo] = useState(matchMedia("(prefers-reduced-motion: reduce)").matches ? path.steps.length : 1);
  const [plays, setPlays] = useState(true);
  const last = path.steps.length;
  const mine = (step) => step.chainId === chainId;
  useEffect(() => {
    if (!plays || upTo >= last) return;
    const timer = setTimeout(() => setUpTo(upTo + 1), PACE);
    return () => clearTimeout(timer);
  }, [upTo, plays]);
  useEffect(() => {
    const passed = path.steps.slice(0, upTo).filter(mine);
    onLit({
      nodes: new Set(passed.map((step) => step.index)),
      edges: new Set(passed.map((step) => `${step.index} ${step.label}`)),
      failed: new Set(passed.filter((step) => step.text !== null).map((step) => step.index)),
      now: passed.at(-1)?.index,
    });
  }, [upTo]);
  const to = (step) => {
    setPlays(false);
    setUpTo(Math.min(Math.max(step, 1), last));
  };
  return html`
    <div class="trial">
      ${last > 1 && html`
        <div class="row" role="group" aria-label="Steps">
          <button onClick=${() => to(1)} disabled=${upTo === 1}>First</button>
          <button onClick=${() => to(upTo - 1)} disabled=${upTo === 1}>Back</button>
          <button onClick=${() => to(upTo + 1)} disabled=${upTo >= last}>Next</button>
          <button onClick=${() => to(last)} disabled=${upTo >= last}>All</button>
          <span class="quiet">step ${upTo} of ${last}</span>
        </div>`}
      <ol class="path" aria-label="Path of the message">
        ${path.steps.slice(0, upTo).map((step, at) => html`<${Step} key=${at} step=${step} elsewhere=${!mine(step)} now=${at === upTo - 1} />`)}
      </ol>
      ${upTo >= last && html`<${Outcome} path=${path} />`}
    </div>
  `;
}

function Step({ step, elsewhere, now }) {
  return html`
    <li aria-current=${now ? "step" : undefined}>
      <b>${step.node}</b>${elsewhere && html` <span class="quiet">in ${step.chain}</span>`}
      ${step.label !== null && html` → ${step.label}`}
      ${step.last && html` <span class="quiet">(the end)</span>`}
      ${step.text !== null && html`<div class="bad">${step.text}</div>`}
      ${step.would.map(({ do: deed, ...detail }, at) => html`<div key=${at} class="deed">would ${deed}: <code>${JSON.stringify(detail)}</code></div>`)}
      <details>
        <summary class="quiet">The message after it</summary>
        <${Json} value=${{ ...step.message, data: readable(step.message.data) }} label="Message" />
      </details>
    </li>
  `;
}

function Outcome({ path }) {
  return html`
    <div role="status">
      ${path.steps.length === 0 && html`<p>The chain has no first node: nothing happens.</p>`}
      ${path.omitted > 0 && html`<p class="quiet">${path.omitted} more steps are not told.</p>`}
      ${!path.ended && html`<p class="warn">A node waits for what will not come; the message goes no further.</p>`}
      ${path.seconds > 0 && html`<p class="quiet">Delays would have taken ${duration(path.seconds * 1_000)}.</p>`}
      ${path.answer !== null && html`<p class="good">Who waits for an answer gets:</p><${Json} value=${path.answer} label="Answer" />`}
      ${path.error !== null && html`<p class="bad">Who waits gets no answer: ${path.error}</p>`}
    </div>
  `;
}

const readable = (text) => checkJson(text).value ?? text;
