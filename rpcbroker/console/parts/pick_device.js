// A device, found by its name.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { Field, useId } from "./field.js";

const SHOWN = 20;
const WAIT = 200; // ms without typing until it is looked for

// `value` is the device's id, or ""; `onPick(id, name)` hears when a name that is typed or chosen is that of a device,
// and of "" when it is none any more.
export function PickDevice({ value, onPick, label = "Device", ...rest }) {
  const list = useId();
  const [text, setText] = useState("");
  const [found, setFound] = useState([]);
  const known = found.find((device) => device.id.id === value);

  useEffect(() => {
    if (!value || known) return;
    const ends = new AbortController(); // it came from elsewhere: say what it is called
    request("GET", `/api/device/${encodeURIComponent(value)}`, { signal: ends.signal })
      .then((device) => {
        setFound([device]);
        setText(device.name);
      })
      .catch(() => {});
    return () => ends.abort();
  }, [value]);

  useEffect(() => {
    const ends = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const query = { pageSize: SHOWN, page: 0, textSearch: text, sortProperty: "name" };
        const page = await request("GET", "/api/deviceInfos/all", { query, signal: ends.signal });
        setFound(page.data);
        const device = page.data.find((each) => each.name === text);
        if (text && (device?.id.id ?? "") !== value) onPick(device?.id.id ?? "", device?.name ?? "");
      } catch {
        // the next letter tries again
      }
    }, WAIT);
    return () => {
      clearTimeout(timer);
      ends.abort();
    };
  }, [text]);

  const typed = (next) => {
    setText(next);
    if (!next && value) onPick("", "");
  };
  const unknown = text && !value ? "Type a device's whole name, or choose one." : undefined;
  return html`
    <${Field} label=${label} value=${text} onInput=${typed} list=${list} autocomplete="off" placeholder="name" hint=${unknown} ...${rest} />
    <datalist id=${list}>${found.map((device) => html`<option key=${device.id.id} value=${device.name}></option>`)}</datalist>
  `;
}
