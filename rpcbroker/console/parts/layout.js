// Where the nodes of a rule chain are drawn.

export const WIDTH = 176; // of a node, px
export const HEIGHT = 48;
const GAP_X = 130;
const GAP_Y = 26;
const MARGIN = 24;
const FARTHEST = 100_000; // px; what is farther away was not put there by anybody
const WIDEST = 2; // times as far from each other as they were put
const SWEEPS = 4;

// {x, y} of the upper left corner of each node, from a margin on: those that the chain itself says where all its nodes
// have one, so far from each other that labels have room; else in layers from left to right, as messages pass.
export function places(nodes, connections, first) {
  const given = nodes.map(givenPlace);
  return shifted(given.every(Boolean) ? widened(given, connections) : layered(nodes.length, connections, first));
}

function widened(given, connections) {
  const steps = connections.map(({ fromIndex, toIndex }) => given[toIndex].x - given[fromIndex].x).filter((step) => step > 0);
  const narrowest = steps.reduce((least, step) => Math.min(least, step), Infinity);
  const factor = Math.min(Math.max((WIDTH + GAP_X) / narrowest, 1), WIDEST);
  return given.map(({ x, y }) => ({ x: x * factor, y }));
}

function givenPlace({ additionalInfo }) {
  const { layoutX: x, layoutY: y } = additionalInfo ?? {};
  return [x, y].every((at) => Number.isFinite(at) && Math.abs(at) <= FARTHEST) ? { x, y } : null;
}

function shifted(given) {
  const left = given.reduce((least, { x }) => Math.min(least, x), Infinity);
  const top = given.reduce((least, { y }) => Math.min(least, y), Infinity);
  return given.map(({ x, y }) => ({ x: x - left + MARGIN, y: y - top + MARGIN }));
}

// How large the drawing is.
export function extent(placed) {
  const right = placed.reduce((most, { x }) => Math.max(most, x), 0);
  const bottom = placed.reduce((most, { y }) => Math.max(most, y), 0);
  return { width: right + WIDTH + MARGIN, height: bottom + HEIGHT + MARGIN };
}

function layered(count, connections, first) {
  const targets = Array.from({ length: count }, () => []);
  for (const { fromIndex, toIndex } of connections) targets[fromIndex].push(toIndex);
  const { order, forward } = withoutCycles(targets, first);
  const layer = new Array(count).fill(0); // the longest way there
  for (const node of order) for (const next of forward[node]) layer[next] = Math.max(layer[next], layer[node] + 1);
  const layers = [];
  for (const node of order) (layers[layer[node]] ??= []).push(node);
  arrange(layers, forward, count);
  const tallest = Math.max(...layers.map((each) => each.length));
  const placed = new Array(count);
  layers.forEach((each, column) =>
    each.forEach((node, row) => {
      const y = (row + (tallest - each.length) / 2) * (HEIGHT + GAP_Y);
      placed[node] = { x: column * (WIDTH + GAP_X), y };
    }),
  );
  return placed;
}

// The nodes so that each comes after those that lead to it, but for connections that lead back to where a message has
// been; `forward` has the others.
function withoutCycles(targets, first) {
  const FRESH = 0, OPEN = 1, DONE = 2;
  const state = new Array(targets.length).fill(FRESH);
  const forward = targets.map(() => []);
  const done = [];
  const starts = first === null ? targets.keys() : [first, ...targets.keys()];
  for (const start of starts) {
    if (state[start] !== FRESH) continue;
    state[start] = OPEN;
    const way = [{ node: start, next: 0 }];
    while (way.length) {
      const at = way.at(-1);
      if (at.next === targets[at.node].length) {
        state[at.node] = DONE;
        done.push(way.pop().node);
        continue;
      }
      const target = targets[at.node][at.next++];
      if (state[target] === OPEN) continue;
      forward[at.node].push(target);
      if (state[target] === FRESH) {
        state[target] = OPEN;
        way.push({ node: target, next: 0 });
      }
    }
  }
  return { order: done.reverse(), forward };
}

// Each node beside those that lead to it, so that few connections cross.
function arrange(layers, forward, count) {
  const sources = Array.from({ length: count }, () => []);
  forward.forEach((targets, node) => targets.forEach((target) => sources[target].push(node)));
  const row = new Array(count).fill(0);
  const number = (each) => each.forEach((node, at) => (row[node] = at));
  layers.forEach(number);
  const mean = (nodes, otherwise) => (nodes.length ? nodes.reduce((sum, node) => sum + row[node], 0) / nodes.length : otherwise);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const beside = sweep % 2 ? forward : sources;
    for (const each of sweep % 2 ? [...layers].reverse() : layers) {
      const wish = new Map(each.map((node) => [node, mean(beside[node], row[node])]));
      each.sort((one, other) => wish.get(one) - wish.get(other));
      number(each);
    }
  }
}

// Connections between the same two nodes are drawn as one: {from, to, labels, path, x, y: where the label stands}.
export function edges(connections, placed) {
  const between = new Map();
  for (const { fromIndex: from, toIndex: to, type } of connections) {
    const key = `${from} ${to}`;
    if (!between.has(key)) between.set(key, { from, to, labels: [], ...curve(placed[from], placed[to]) });
    between.get(key).labels.push(type);
  }
  return [...between.values()];
}

function curve(from, to) {
  const start = { x: from.x + WIDTH, y: from.y + HEIGHT / 2 };
  const end = { x: to.x, y: to.y + HEIGHT / 2 };
  const back = end.x < start.x; // it leads back: below the nodes that are in between
  const out = Math.max(50, Math.abs(end.x - start.x) / 2);
  const down = back ? HEIGHT + 40 : 0;
  const one = { x: start.x + (back ? 90 : out), y: start.y + down };
  const two = { x: end.x - (back ? 90 : out), y: end.y + down };
  const middle = (axis) => (start[axis] + 3 * one[axis] + 3 * two[axis] + end[axis]) / 8;
  const path = `M${start.x} ${start.y} C${one.x} ${one.y} ${two.x} ${two.y} ${end.x} ${end.y}`;
  return { path, x: middle("x"), y: middle("y") };
}
