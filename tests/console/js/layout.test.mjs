// Where the nodes of rule chains are drawn, whatever their graphs are like.

import assert from "node:assert/strict";
import test from "node:test";
import { edges, extent, HEIGHT, places, WIDTH } from "../../../rpcbroker/console/parts/layout.js";

const nodes = (count, info = () => null) => Array.from({ length: count }, (_, n) => ({ additionalInfo: info(n) }));
const link = (fromIndex, toIndex, type = "Success") => ({ fromIndex, toIndex, type });

function apart(placed) {
  const taken = new Set(placed.map(({ x, y }) => `${x} ${y}`));
  return taken.size === placed.length;
}

test("a message goes from left to right, and back only where it has been", () => {
  const placed = places(nodes(4), [link(0, 1), link(1, 2), link(0, 2), link(2, 0), link(3, 3)], 0);
  assert.ok(placed[0].x < placed[1].x && placed[1].x < placed[2].x);
  assert.ok(apart(placed));
});

test("a chain without nodes, without a first one, or of one that leads to itself is drawn", () => {
  assert.deepEqual(places([], [], null), []);
  assert.ok(apart(places(nodes(3), [link(2, 0)], null)));
  assert.equal(places(nodes(1), [link(0, 0)], 0).length, 1);
  assert.ok(extent([]).width > 0);
});

test("nodes are where the chain says, if it says so of all and in earnest", () => {
  const given = nodes(2, (n) => ({ layoutX: 1000 * n, layoutY: 70 * n }));
  const [one, other] = places(given, [link(0, 1)], 0);
  assert.deepEqual([other.x - one.x, other.y - one.y], [1000, 70]);
  for (const wrong of [null, {}, { layoutX: "7", layoutY: 1 }, { layoutX: 1e9, layoutY: 1 }, { layoutX: NaN, layoutY: 1 }, "text", [1]]) {
    const placed = places(nodes(2, (n) => (n ? wrong : { layoutX: 5, layoutY: 5 })), [link(0, 1)], 0);
    assert.ok(placed.every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y) && x < 2000), String(wrong));
  }
});

test("nodes that lead to each other have room for a label between them", () => {
  const close = nodes(3, (n) => ({ layoutX: 200 * n, layoutY: 0 }));
  const placed = places(close, [link(0, 1), link(1, 2)], 0);
  assert.ok(placed[1].x - placed[0].x > WIDTH + 100);
});

test("what leads from one node to another is one line with all its labels", () => {
  const connections = [link(0, 1, "True"), link(0, 1, "False"), link(1, 0, "Failure")];
  const drawn = edges(connections, places(nodes(2), connections, 0));
  assert.deepEqual(drawn.map(({ labels }) => labels), [["True", "False"], ["Failure"]]);
});

test("as many nodes as a chain may have are placed at once", () => {
  const count = 10_000;
  const line = Array.from({ length: count - 1 }, (_, n) => link(n, n + 1));
  const fan = Array.from({ length: count - 1 }, (_, n) => link(0, n + 1));
  for (const connections of [line, fan]) {
    const placed = places(nodes(count), connections, 0);
    assert.ok(apart(placed));
    assert.ok(extent(placed).height >= HEIGHT);
  }
});
