// Where devices find the broker: the host of this page, and the ports that the broker says.

import { request } from "./session.js";

// {http: the URL of this page, mqtt, mqtts, coap, coaps: {host, port}}; what the broker does not speak is missing.
export async function endpoints() {
  const { urls } = await request("GET", "/api/endpoints");
  const found = { http: location.origin };
  for (const scheme of ["mqtt", "mqtts", "coap", "coaps"]) {
    const port = /:(\d+)\/?$/.exec(urls[scheme] ?? "")?.[1];
    if (port) found[scheme] = { host: location.hostname.replace(/^\[|\]$/g, ""), port: Number(port) };
  }
  return found;
}

// One word of a POSIX shell, whatever is in it.
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
