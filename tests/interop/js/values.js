// What ThingsBoard's pages do with its WebSocket, on ws: what is read from stdin is sent, what comes is printed. URL.

import { createInterface } from "node:readline";
import WebSocket from "ws";

const [url] = process.argv.slice(2);
const say = (what) => console.log(JSON.stringify(what));
const socket = new WebSocket(url);

socket.on("open", () => {
  say({ opened: true });
  createInterface({ input: process.stdin }).on("line", (line) => {
    socket.send(line === "binary" ? Buffer.from("{}") : line);
  });
});
socket.on("message", (data, binary) => say(binary ? { binary: data.length } : JSON.parse(data)));
socket.on("close", (code, reason) => {
  say({ closed: code, reason: String(reason) });
  process.exit(0);
});
socket.on("error", (error) => console.error(error));
