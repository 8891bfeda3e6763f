// A rule chain as a drawing: its nodes, which can be pointed at and reached by keyboard, and where messages go.

import { html, useEffect, useMemo, useRef } from "../vendor/htm-preact.js";
import { edges, extent, HEIGHT, places, WIDTH } from "./layout.js";

const LONGEST = 26; // characters of a label

// `metadata` is the API's graph. `lit` says what a message has passed: {nodes: a Set of indices, edges: a Set of
// "index label", failed: a Set of indices, now: index}, or null. `onSelect(index)`.
export function Graph({ label, metadata, selected, onSelect, lit }) {
  const { nodes, firstNodeIndex: first } = metadata;
  const { placed, drawn, size } = useMemo(() => {
    const connections = metadata.connections ?? [];
    const placed = places(nodes, connections, first);
    return { placed, drawn: edges(connections, placed), size: extent(placed) };
  }, [metadata]);
  const frame = useRef(null);
  useEffect(() => {
    if (lit?.now === undefined) return;
    const { x, y } = placed[lit.now];
    const { clientWidth, clientHeight } = frame.current;
    frame.current.scrollTo({ left: x - (clientWidth - WIDTH) / 2, top: y - (clientHeight - HEIGHT) / 2 });
  }, [lit?.now]);
  const isLit = ({ from, labels }) => labels.some((each) => lit?.edges.has(`${from} ${each}`));
  return html`
    <div class="graph" role="region" aria-label=${label} tabindex="0" ref=${frame}>
      <div class="canvas" style=${pixels(size)}>
        <svg width=${size.width} height=${size.height} aria-hidden="true">
          <defs>
            ${["tip", "lit-tip"].map((id) => html`
              <marker key=${id} id=${id} viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" markerHeight="9" orient="auto">
                <path d="M0 0 8 4 0 8z" />
              </marker>`)}
          </defs>
          ${drawn.map((edge) => html`
            <g key="${edge.from} ${edge.to}" class="edge ${isLit(edge) ? "lit" : ""}">
              <path d=${edge.path} marker-end="url(#${isLit(edge) ? "lit-tip" : "tip"})" />
              <text x=${edge.x} y=${edge.y}><title>${edge.labels.join(", ")}</title>${cut(edge.labels.join(", "))}</text>
            </g>`)}
        </svg>
        ${nodes.map((node, index) => {
          const { x: left, y: top } = placed[index];
          return html`
            <button key=${index} style=${pixels({ left, top, width: WIDTH, height: HEIGHT })} class=${nodeClass(index, { first, selected, lit })}
              aria-pressed=${index === selected} title=${node.name} onClick=${() => onSelect(index)}>
              <span class="name">${node.name}</span> <span class="type">${shortType(node.type)}</span>
              <span class="unseen">${index === first && "the first node"} ${lit?.nodes.has(index) && "passed"}</span>
            </button>`;
        })}
      </div>
    </div>
  `;
}

function nodeClass(index, { first, selected, lit }) {
  const words = {
    first: index === first,
    selected: index === selected,
    lit: lit?.nodes.has(index),
    failed: lit?.failed.has(index),
    now: lit?.now === index,
  };
  return ["node", ...Object.keys(words).filter((word) => words[word])].join(" ");
}

const pixels = (sizes) => Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, `${size}px`]));

// "TbMsgTypeSwitchNode" of a type that is the name of a class.
export const shortType = (type) => type.split(".").at(-1);

const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);
