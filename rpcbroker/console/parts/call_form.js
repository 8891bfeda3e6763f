// Calls to one device: a form, and what became of those that were made with it.

import { html, useEffect, useLayoutEffect, useState } from "../vendor/htm-preact.js";
import { cancel, heardOf, madeTo, make, onMade } from "../calls_made.js";
import { watch } from "../feed.js";
import { confirm } from "./dialog.js";
import { Check, Field } from "./field.js";
import { Json, JsonField, checkJson } from "./json.js";
import { Failed } from "./load.js";
import { duration, timeOfDay } from "./time.js";
import { toast } from "./toast.js";

const NEW = { method: "", params: "", oneway: false, timeout: "", persistent: false };
const LARGEST = 2 ** 31;

export function CallForm({ device }) {
  const deviceId = device.id.id;
  const [given, setGiven] = useState(NEW);
  const [made, setMade] = useState(madeTo(deviceId));
  useLayoutEffect(() => onMade(() => setMade(madeTo(deviceId))), [deviceId]);
  useEffect(() => watch(`rpcbroker.call.${deviceId}`, heardOf, { match: "prefix", payloads: true }), [deviceId]);
  const set = (name) => (value) => setGiven((old) => ({ ...old, [name]: value }));
  const params = checkJson(given.params);
  const timeout = given.timeout === "" ? null : Number(given.timeout);
  const wrongTimeout = timeout !== null && !(timeout > 0 && timeout < LARGEST) && "A number of milliseconds";
  const submit = (event) => {
    event.preventDefault();
    const { method, oneway, persistent } = given;
    make(deviceId, { method, params: params.value, oneway, timeout, persistent });
  };
  const again = async (asked) => {
    const text = `${asked.method} is sent to “${device.name}” once more, as a call of its own.`;
    if (await confirm({ title: "Make this call again?", text, action: "Call again" })) make(deviceId, asked);
  };
  const edit = (asked) =>
    setGiven({ ...asked, params: asked.params === null ? "" : JSON.stringify(asked.params, null, 2), timeout: asked.timeout ?? "" });
  return html`
    <section class="card" aria-label="Call this device">
      <h2>Call</h2>
      <form class="form" onSubmit=${submit}>
        <${Field} label="Method" required autocomplete="off" spellcheck=${false} value=${given.method} onInput=${set("method")} />
        <${JsonField} label="Params, as JSON" value=${given.params} onInput=${set("params")} hint="Empty is null." />
        <div class="fields">
          <${Field} label="Kind" type="select" value=${given.oneway ? "oneway" : "twoway"}
            options=${[["twoway", "two-way: wait for the reply"], ["oneway", "one-way: just deliver"]]}
            onInput=${(value) => set("oneway")(value === "oneway")} />
          <${Field} label="Timeout, ms" inputmode="numeric" placeholder="the broker's" value=${given.timeout}
            onInput=${set("timeout")} error=${wrongTimeout} />
        </div>
        <${Check} label="Persistent: keep it until it ends, also while the device is away" checked=${given.persistent}
          onInput=${set("persistent")} />
        <div><button class="primary" disabled=${Boolean(params.error || wrongTimeout)}>Call</button></div>
      </form>
    </section>
    <section class="card" aria-label="Calls made here">
      <h2>Made from this page</h2>
      ${made.length === 0 && html`<p class="quiet">Nothing yet. What is made here is kept until the page is left.</p>`}
      <ol class="made">
        ${made.map((entry) => html`<${Made} key=${entry.rpcId} entry=${entry} onAgain=${again} onEdit=${edit} />`)}
      </ol>
    </section>
  `;
}

function Made({ entry, onAgain, onEdit }) {
  const { rpcId, asked, began, steps, progress, running, reply, error, reason } = entry;
  const [busy, setBusy] = useState(false);
  const stop = async () => {
    setBusy(true);
    try {
      toast(await cancel(rpcId));
    } catch (failed) {
      toast(failed);
      setBusy(false);
    }
  };
  const outcome = running ? "running" : error || reason ? "failed" : "done";
  return html`
    <li class="call ${outcome}">
      <div class="row spread">
        <span class="row"><code class="method">${asked.method}</code><${Outcome} outcome=${outcome} said=${reply} /></span>
        <span class="quiet">${timeOfDay(began)}${asked.oneway && " · one-way"}${asked.persistent && " · persistent"}</span>
      </div>
      ${asked.params !== null && html`<pre class="json" tabindex="0" role="region" aria-label="Params">${JSON.stringify(asked.params)}</pre>`}
      <div aria-live="polite">
        <${Steps} steps=${steps} />
        ${progress.map((value, at) => html`<p key=${at} class="quiet">Interim: <code>${JSON.stringify(value)}</code></p>`)}
        ${error && html`<${Failed} error=${error} />`}
        ${reason && html`<p class="bad">Ended without success: <code>${reason}</code></p>`}
        ${!running && !error && !asked.oneway && !reason && html`<${Json} value=${reply ?? null} label="Reply" />`}
      </div>
      <div class="row">
        ${running && html`<button disabled=${busy} onClick=${stop} aria-label=${`Cancel ${asked.method}`}>Cancel</button>`}
        <button onClick=${() => onAgain(asked)} aria-label=${`Call ${asked.method} again`}>Again…</button>
        <button onClick=${() => onEdit(asked)} aria-label=${`Put ${asked.method} into the form`}>Into the form</button>
        <a href="#/call/${rpcId}">Time line</a>
      </div>
    </li>
  `;
}

function Outcome({ outcome, said }) {
  const deviceError = outcome === "done" && said && typeof said === "object" && "error" in said;
  if (deviceError) return html`<span class="fact bad">the device says error</span>`;
  const words = { running: "running", failed: "failed", done: "done" };
  return html`<span class="fact ${outcome === "done" ? "yes" : outcome === "failed" ? "bad" : ""}">${words[outcome]}</span>`;
}

// What happened to a call, with the time since it was accepted.
function Steps({ steps }) {
  if (!steps.length) return null;
  return html`
    <ol class="steps" aria-label="Steps">
      ${steps.map(({ step, ms }, at) => html`<li key=${at}>${step.toLowerCase().replaceAll("_", " ")} <span class="quiet">${duration(ms)}</span></li>`)}
    </ol>
  `;
}
