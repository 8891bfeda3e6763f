// A device, found by its name.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Field } from "../parts/field.js";
import { request, session } from "../session.js";

const MOST = 20;
const PAUSE = 250; // ms without typing until it is looked for

// The devices that the user may see, by part of the name.
function find(text, signal) {
  const { authority, customerId } = session.user;
  const of = authority === "CUSTOMER_USER" ? `customer/${encodeURIComponent(customerId.id)}` : "tenant";
  const query = { pageSize: MOST, page: 0, textSearch: text, sortProperty: "name", sortOrder: "ASC" };
  return request("GET", `/api/${of}/devices`, { query, signal });
}

// `value` is an id or null; `none` is what stands for null, undefined if one must be chosen.
export function DeviceChoice({ value, onChoose, none, label = "Device" }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState([]);
  const [chosen, setChosen] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    const aborted = new AbortController();
    const look = () =>
      find(text, aborted.signal).then(
        ({ data }) => (setFound(data), setError(null)),
        (failed) => aborted.signal.aborted || setError(failed.message),
      );
    const timer = setTimeout(look, text ? PAUSE : 0);
    return () => (clearTimeout(timer), aborted.abort());
  }, [text]);
  useEffect(() => {
    if (!value || chosen?.id.id === value) return;
    request("GET", `/api/device/${encodeURIComponent(value)}`).then(setChosen, () => setChosen(null));
  }, [value]);
  const listed = found.map((device) => [device.id.id, device.name]);
  if (value && !listed.some(([id]) => id === value)) {
    listed.unshift([value, chosen?.id.id === value ? chosen.name : "a device that is not there any more, or not for you"]);
  }
  return html`
    <div class="fields">
      <${Field} label="${label}: search" type="search" value=${text} onInput=${setText} error=${error} />
      <${Field} label=${label} type="select" value=${value ?? ""} onInput=${(id) => onChoose(id || null)}
        options=${[...(none === undefined && value ? [] : [["", none ?? "Choose a device"]]), ...listed]} />
    </div>
  `;
}
