// One rule chain: drawn, with what its nodes are and recorded, and messages to try.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { saveJson } from "../parts/files.js";
import { useFollow } from "../parts/follow.js";
import { Graph, shortType } from "../parts/graph.js";
import { Json } from "../parts/json.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Table } from "../parts/table.js";
import { exact, timeOfDay } from "../parts/time.js";
import { toast } from "../parts/toast.js";
import { Trial } from "../parts/trial.js";

const EVENTS = 20; // of a node, that are shown

export default function Chain({ params }) {
  const id = encodeURIComponent(params.id);
  const loaded = useLoad(async (signal) => {
    const [chain, metadata] = await Promise.all(
      ["", "/metadata"].map((part) => request("GET", `/api/ruleChain/${id}${part}`, { signal })),
    );
    return { chain, metadata };
  }, [id]);
  return html`<${Loaded} of=${loaded}>${(value) => html`<${Shown} ...${value} reload=${loaded.reload} />`}<//>`;
}

function Shown({ chain, metadata, reload }) {
  const [{ selected, moved }, select] = useState({ selected: null, moved: false }); // moved: from the panel of another
  const [lit, setLit] = useState(null);
  const node = metadata.nodes[selected];
  return html`
    <div class="row spread">
      <h1>${chain.name}${" "}${chain.root && html`<span class="fact yes">root</span>`}</h1>
      <button onClick=${() => saveJson(chain.name, exported(chain, metadata))}>Export</button>
    </div>
    ${metadata.nodes.length === 0
      ? html`<p class="quiet">This chain has no nodes: nothing happens to what comes here. Import one over it, or begin with a new chain.</p>`
      : html`<${Graph} label="Nodes of ${chain.name}" metadata=${metadata} selected=${selected} onSelect=${(index) => select({ selected: index, moved: false })} lit=${lit} />`}
    ${node
      ? html`<${Node} key=${node.id.id} node=${node} index=${selected} metadata=${metadata} chainId=${chain.id.id} reload=${reload} moved=${moved} onSelect=${(to) => select({ selected: to, moved: true })} />`
      : metadata.nodes.length > 0 && html`<p class="quiet">Choose a node to see what it is.</p>`}
    <${Trial} chainId=${chain.id.id} metadata=${metadata} onLit=${setLit} />
  `;
}

// Without what is this broker's own: ids, times, versions, and whether it is the root.
function exported(chain, metadata) {
  const { id: _, tenantId: _1, createdTime: _2, firstRuleNodeId: _3, root: _4, version: _5, ...ruleChain } = chain;
  const { ruleChainId: _6, version: _7, ...graph } = metadata;
  const nodes = graph.nodes.map(({ id: _8, ...node }) => node);
  return { ruleChain, metadata: { ...graph, nodes } };
}

function Node({ node, index, metadata, chainId, reload, moved, onSelect }) {
  const heading = useRef(null);
  useEffect(() => moved && heading.current.focus(), []); // the button that was pressed is gone
  const leads = (metadata.connections ?? []).filter((each) => each.fromIndex === index);
  const debug = node.debugSettings ?? {};
  const until = debug.allEnabledUntil ?? 0;
  const recordsAll = debug.allEnabled || until > Date.now();
  const record = async (settings) => {
    const nodes = metadata.nodes.map((each, at) => (at === index ? { ...each, debugMode: false, debugSettings: settings } : each));
    try {
      await request("POST", "/api/ruleChain/metadata", { body: { ...metadata, nodes } });
      reload();
    } catch (error) {
      toast(error);
    }
  };
  return html`
    <section class="card">
      <div class="row spread">
        <h2 tabindex="-1" ref=${heading}>${node.name}</h2>
        <div class="row">
          ${recordsAll
            ? html`<button onClick=${() => record({ failuresEnabled: false, allEnabled: false, allEnabledUntil: 0 })}>Stop recording</button>`
            : html`<button onClick=${() => record({ failuresEnabled: true, allEnabled: true, allEnabledUntil: 0 })}>Record for 15 minutes</button>`}
        </div>
      </div>
      <dl class="facts">
        <div><dt>Type</dt><dd>${shortType(node.type)}<br /><code class="quiet">${node.type}</code></dd></div>
        <div><dt>Leads to</dt><dd>
          ${leads.length === 0
            ? html`<span class="quiet">nothing: messages end here</span>`
            : html`<ul class="plain">${leads.map((each) => html`
                <li key="${each.type} ${each.toIndex}">
                  ${each.type}: <button class="link" onClick=${() => onSelect(each.toIndex)}>${metadata.nodes[each.toIndex].name}</button>
                </li>`)}</ul>`}
        </dd></div>
        <div><dt>Records</dt><dd>${recordsAll ? `all that passes${until ? ` until ${exact(until)}` : ""}` : debug.failuresEnabled ? "failures" : "nothing"}</dd></div>
      </dl>
      <h3 class="below">Configuration</h3>
      <${Json} value=${node.configuration ?? {}} label="Configuration" />
      <${Events} nodeId=${node.id.id} chainId=${chainId} />
    </section>
  `;
}

const columns = [
  { title: "Time", render: ({ createdTime }) => html`<time datetime=${new Date(createdTime).toISOString()} title=${exact(createdTime)}>${timeOfDay(createdTime)}</time>` },
  { title: "Way", render: ({ body }) => `${body.type}${body.relationType ? ` (${body.relationType})` : ""}` },
  { title: "Message", render: ({ body }) => body.msgType },
  { title: "Data", wide: true, render: ({ body }) => html`<code>${body.data}</code>` },
  { title: "Error", render: ({ body }) => body.error && html`<span class="bad">${body.error}</span>` },
];

// What the node recorded, the newest first, as it comes.
function Events({ nodeId, chainId }) {
  const query = { pageSize: EVENTS, page: 0 };
  const loaded = useLoad((signal) => request("GET", `/api/events/RULE_NODE/${nodeId}`, { query, signal }), [nodeId]);
  useFollow(`rpcbroker.rule.${chainId}`, loaded.reload, { heard: (fields) => fields.nodeId === nodeId });
  return html`
    <h3 class="below">Recorded</h3>
    <${Loaded} of=${loaded}>
      ${(page) => html`<${Table} label="Recorded messages" columns=${columns} rows=${page.data} keyOf=${(each) => each.uid} empty="Nothing was recorded." />`}
    <//>
  `;
}
