// A value of a device in a component.

import { useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { accepted } from "./answers.js";
import { callDevice, latestValue, watchCallable, watchValues } from "./device.js";
import { START, Value } from "./value.js";

// [model, set(value)]: see value.js. `read(raw)` makes a value of what the device says, or raises an Error; `params(value)`
// is what it is sent. `settings` are those of `valued` in kinds.js.
export function useValue(deviceId, settings, { read, params }) {
  const { source, key, getMethod, setMethod, twoway, check, timeout, persistent, pollingInterval } = settings;
  return useFollowed(deviceId, settings, {
    source,
    key,
    read,
    check: check && source === "rpc",
    ask: async (signal) => {
      const call = { method: getMethod, params: null, timeout };
      return { value: read(accepted(await callDevice(deviceId, call, signal))) };
    },
    set: async (value, signal) => {
      const call = { method: setMethod, params: params(value), oneway: !twoway, timeout, persistent, pollingInterval };
      const reply = await callDevice(deviceId, call, signal);
      return twoway && accepted(reply) !== undefined ? { value } : null;
    },
  });
}

// The same where the way to ask is another: `ask(signal)` is for the source rpc, and resolves to {value}. With `again`, ms,
// what failed is asked again after that time, as long as the device can be called.
export function useFollowed(deviceId, settings, { source, key, read, check = false, ask, set, again = 0 }) {
  const [model, setModel] = useState(START);
  const value = useRef(null);
  useEffect(() => {
    setModel(START);
    if (!deviceId) return undefined;
    let timer = null;
    let callable = null;
    const mine = (value.current = new Value({
      check,
      set,
      read: source === "rpc" ? ask : (signal) => stored(deviceId, key, source, read, signal),
      onChange: (next) => {
        setModel(next);
        clearTimeout(timer);
        if (again && next.state === "unread" && callable !== false) timer = setTimeout(() => mine.input("read"), again);
      },
    }));
    const ends = [
      watchCallable(deviceId, (next) => {
        callable = next;
        if (source === "rpc" && next !== false) mine.input("read");
      }),
    ];
    if (source !== "rpc") mine.input("read");
    if (key) {
      const onValues = (values) => {
        if (!Object.hasOwn(values, key)) return;
        try {
          mine.input("push", read(values[key]));
        } catch {
          // it is told by the same name, and is another thing
        }
      };
      ends.push(watchValues(deviceId, onValues, () => source !== "rpc" && mine.input("read")));
    }
    return () => {
      clearTimeout(timer);
      ends.forEach((end) => end());
      mine.stop();
    };
  }, [deviceId, JSON.stringify(settings)]);
  return [model, (wanted) => value.current?.input("set", wanted)];
}

async function stored(deviceId, key, source, read, signal) {
  const found = await latestValue(deviceId, key, source, signal);
  return found && { value: read(found.value) };
}
