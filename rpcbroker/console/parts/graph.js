// A rule chain as a drawing: its nodes, which can be pointed at and reached by keyboard, and where messages go.

import { html, useMemo } from "../vendor/htm-preact.js";
import { edges, extent, HEIGHT, places, WIDTH } from "./layout.js";

const LONGEST = 24; // characters of a name that fit
const LONGEST_LABEL = 26;

// `metadata` is the API's graph. `lit` says what a message has passed: {nodes: a Set of indices, edges: a Set of
// "index label", failed: a Set of indices, now: index}, or null. `onSelect(index)`.
export function Graph({ label, metadata, selected, onSelect, lit }) {
  const { nodes, firstNodeIndex: first } = metadata;
  const connections = metadata.connections ?? [];
  const { placed, drawn, size } = useMemo(() => {
    const placed = places(nodes, connections, first);
    return { placed, drawn: edges(connections, placed), size: extent(placed) };
  }, [metadata]);
  const isLit = ({ from, labels }) => labels.some((each) => lit?.edges.has(`${from} ${each}`));
  return html`
    <div class="graph" role="region" aria-label=${label} tabindex="0">
      <svg width=${size.width} height=${size.height} role="group" aria-label="${nodes.length} nodes">
        <defs>
          ${["tip", "lit-tip"].map((id) => html`
            <marker key=${id} id=${id} viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" markerHeight="9" orient="auto">
              <path d="M0 0 8 4 0 8z" />
            </marker>`)}
        </defs>
        <g aria-hidden="true">
          ${drawn.map((edge) => html`
            <g key="${edge.from} ${edge.to}" class="edge ${isLit(edge) ? "lit" : ""}">
              <path d=${edge.path} marker-end="url(#${isLit(edge) ? "lit-tip" : "tip"})" />
              <text x=${edge.x} y=${edge.y}><title>${edge.labels.join(", ")}</title>${cut(edge.labels.join(", "), LONGEST_LABEL)}</text>
            </g>`)}
        </g>
        ${nodes.map((node, index) => html`
          <g key=${index} transform="translate(${placed[index].x} ${placed[index].y})" tabindex="0" role="button"
            class=${nodeClass(index, { first, selected, lit })} aria-pressed=${index === selected}
            aria-label="${node.name}, ${shortType(node.type)}${index === first ? ", the first node" : ""}${lit?.nodes.has(index) ? ", passed" : ""}"
            onClick=${() => onSelect(index)} onKeyDown=${(event) => pressed(event, () => onSelect(index))}>
            <g aria-hidden="true">
              <title>${node.name}</title>
              <rect width=${WIDTH} height=${HEIGHT} rx="6" />
              <text x="10" y="20">${cut(node.name, LONGEST)}</text>
              <text x="10" y="37" class="type">${cut(shortType(node.type), LONGEST + 3)}</text>
            </g>
          </g>`)}
      </svg>
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

function pressed(event, act) {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  act();
}

// "TbMsgTypeSwitchNode" of a type that is the name of a class.
export const shortType = (type) => type.split(".").at(-1);

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
