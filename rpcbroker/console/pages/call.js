// One call: its time line, why it went as it did, and the same again.

import { html, useState } from "../vendor/htm-preact.js";
import { cancel, madeAs } from "../calls_made.js";
import { endpoints } from "../endpoints.js";
import { watch } from "../feed.js";
import { request } from "../session.js";
import { Bars } from "../parts/bars.js";
import { callSnippets } from "../parts/call_snippets.js";
import { Snippet } from "../parts/copy.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { useFollow } from "../parts/follow.js";
import { checkJson, Json, JsonField } from "../parts/json.js";
import { Loaded, useLoad } from "../parts/load.js";
import { keepPayloads, usePayloads } from "../parts/payloads.js";
import { REASONS, State } from "../parts/reasons.js";
import { exact, Time, useNow } from "../parts/time.js";
import { toast } from "../parts/toast.js";
import { newUuid } from "../parts/uuid.js";

export default function Call({ params }) {
  const id = encodeURIComponent(params.id);
  const loaded = useLoad((signal) => asked(id, signal), [id]);
  const deviceId = loaded.value?.deviceId;
  const heard = (fields) => {
    if (fields.rpcId !== params.id) return false;
    keepPayloads(fields);
  };
  useFollow(deviceId ? `rpcbroker.call.${deviceId}.` : null, loaded.reload, { match: "prefix", payloads: true, heard });
  return html`
    <${Loaded} of=${loaded}>${(call) => html`<${Told} call=${call} />`}<//>
  `;
}

// The time line; of what the broker keeps with `params` and `reply`, and the whole method.
async function asked(id, signal) {
  const call = await request("GET", `/api/rpc/${id}/timeline`, { signal });
  const kept = call.persistent && call.state !== "DELETED" ? await request("GET", `/api/rpc/persistent/${id}`, { signal }) : null;
  if (!kept) return call;
  const { method, params } = kept.request.body;
  return { ...call, method, params: JSON.parse(params), reply: kept.response ?? undefined };
}

function Told({ call: asked }) {
  const { asked: made, reply } = madeAs(asked.rpcId) ?? {};
  const call = { ...(made && { params: made.params, reply }), ...usePayloads(asked.rpcId), ...asked };
  const now = useNow();
  const at = useLoad(endpoints, []);
  const [again, setAgain] = useState(false);
  const ended = call.endedTime !== null;
  const began = call.steps[0]?.ts ?? call.createdTime;
  const cause = REASONS[call.reason];
  const stop = async () => {
    if (!(await confirm({ title: "Cancel this call?", text: "What was not sent yet never will be. A device that has it may do it all the same.", action: "Cancel the call", danger: true }))) return;
    try {
      toast(await cancel(call.rpcId));
    } catch (error) {
      toast(error);
    }
  };
  return html`
    <div class="row spread">
      <h1>${call.method || "(no name)"}</h1>
      <div class="row">
        ${!ended && html`<button class="danger" onClick=${stop}>Cancel the call</button>`}
        <button onClick=${() => setAgain(true)}>Send again…</button>
      </div>
    </div>
    <div class="grid">
      <section class="card">
        <dl class="facts">
          <div><dt>Device</dt><dd><a href="#/device/${call.deviceId}">${call.deviceName ?? "gone"}</a></dd></div>
          <div><dt>State</dt><dd><span role="status"><${State} ...${call} /></span></dd></div>
          ${call.reason && html`<div><dt>Reason</dt><dd><code>${call.reason}</code> ${cause?.why}</dd></div>`}
          ${cause && html`<div><dt>What to do</dt><dd>${cause.advice}</dd></div>`}
          ${call.deviceError && html`<div><dt>What to do</dt><dd>The call itself went well: the device did it, or refused to, and says so in its reply.</dd></div>`}
          <div><dt>Kind</dt><dd>${call.oneWay ? "one-way" : "two-way"}${call.persistent && ", persistent"}</dd></div>
          <div><dt>Accepted</dt><dd>${exact(began)}</dd></div>
          <div><dt>Expires</dt><dd>${ended ? exact(call.expirationTime) : html`<${Time} ms=${call.expirationTime} />`}</dd></div>
          <div><dt>Id</dt><dd><code>${call.rpcId}</code></dd></div>
          <div><dt>For the device</dt><dd>number <code>${call.wireId}</code></dd></div>
        </dl>
      </section>
      <section class="card">
        <h2>Params</h2>
        ${call.params === undefined ? html`<p class="quiet">The broker keeps none of a call that is not persistent, and this page was not open when it was made.</p>` : html`<${Json} value=${call.params} label="Params" />`}
        ${call.reply !== undefined && html`<h2 class="below">Reply</h2><${Json} value=${call.reply} label="Reply" />`}
      </section>
    </div>
    <section class="card">
      <h2>Time line</h2>
      <${Bars} steps=${call.steps} omitted=${call.omitted} ended=${ended} until=${(ended ? call.endedTime : now) - began} />
    </section>
    <section class="card">
      <h2>The same from a terminal</h2>
      <p class="quiet">With a token of yours in <code>TOKEN</code>, such as <code>rpcbroker token</code> prints; the device's own is in <code>ACCESS_TOKEN</code>.</p>
      <${Loaded} of=${at}>
        ${(found) => callSnippets({ ...call, params: call.params ?? null, timeout: timeoutOf(call) }, found).map(([title, text]) => html`<${Snippet} key=${title} title=${title} text=${text} />`)}
      <//>
    </section>
    ${again && html`<${Again} call=${call} onClose=${() => setAgain(false)} />`}
  `;
}

const timeoutOf = (call) => Math.max(call.expirationTime - call.createdTime, 0);

// Asks first: a device may do something when it is called.
function Again({ call, onClose }) {
  const [text, setText] = useState(call.params === undefined ? "" : JSON.stringify(call.params, null, 2));
  const [timeout, setLimit] = useState(String(timeoutOf(call)));
  const [busy, setBusy] = useState(false);
  const given = checkJson(text);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    const rpcId = newUuid();
    const body = { method: call.method, params: given.value, persistent: call.persistent, requestUUID: rpcId, timeout: Number(timeout) || undefined };
    let end;
    const seen = new Promise((resolve) => {
      end = watch(`rpcbroker.call.${call.deviceId}.`, (fields) => fields.rpcId === rpcId && resolve(), { match: "prefix", payloads: true });
    });
    keepPayloads({ rpcId, params: given.value });
    const answered = request("POST", `/api/rpc/${call.oneWay ? "oneway" : "twoway"}/${call.deviceId}`, { body });
    answered.then((reply) => call.oneWay || call.persistent || keepPayloads({ rpcId, reply }), toast);
    try {
      await Promise.race([seen, answered]); // it is looked at from its first event on, for its answer may take a while
    } catch (error) {
      if (!error.reason) return setBusy(false); // it was not taken: there is nothing to look at
    } finally {
      end();
    }
    location.hash = `#/call/${rpcId}`;
  };
  return html`
    <${Dialog} title="Send it again?" onClose=${onClose}>
      <form class="form" onSubmit=${send}>
        <p>
          ${call.deviceName} is asked for <b>${call.method}</b> once more. This is a new call, with an id of its own: what
          the device did before, it may do a second time.
        </p>
        <${JsonField} label="Params" value=${text} onInput=${setText} />
        <${Field} label="Timeout, ms" type="number" min="0" value=${timeout} onInput=${setLimit} />
        <div class="actions">
          <button type="button" onClick=${onClose}>Cancel</button>
          <button class="primary" disabled=${busy || given.error}>Send</button>
        </div>
      </form>
    <//>
  `;
}
