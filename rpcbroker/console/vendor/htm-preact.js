// preact, its hooks, and `html`: what the console imports of them, at one place.
import htm from "./htm.js";
import { h } from "./preact.js";

export * from "./preact.js";
export * from "./preact-hooks.js";
export const html = htm.bind(h);
