// GPIO control and GPIO panel: pins that are switched, and pins that are only shown.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { callDevice, telemetry, watchCallable, watchValues } from "./device.js";
import { Frame } from "./frame.js";
import { HEADER, isOn, labelOf, statusOf } from "./gpio.js";
import { START, SHOWN, Value, shown } from "./value.js";

// How true all is: as true as the least of them.
const WORST = ["failed", "pending", "unknown", "confirmed"];

export function GpioControl({ title, deviceId, settings }) {
  const { pins, follow } = settings;
  const [models, setModels] = useState({});
  const values = useRef({});
  useEffect(() => {
    setModels({});
    if (!deviceId) return undefined;
    const board = (values.current = valuesOf(deviceId, settings, (pin, model) =>
      setModels((old) => ({ ...old, [pin]: model })),
    ));
    const each = Object.entries(board);
    const ends = [
      watchCallable(deviceId, (callable) => callable !== false && each.forEach(([, value]) => value.input("read"))),
    ];
    if (follow) {
      const told = (news) => {
        for (const [pin, value] of each) if (Object.hasOwn(news, pin)) value.input("push", isOn(news[pin]));
      };
      ends.push(watchValues(deviceId, told));
    }
    return () => {
      ends.forEach((end) => end());
      each.forEach(([, value]) => value.stop());
    };
  }, [deviceId, JSON.stringify(settings)]);
  const states = pins.map(({ pin }) => SHOWN[(models[pin] ?? START).state]);
  const state = WORST.find((each) => states.includes(each));
  const error = pins.map(({ pin }) => models[pin]?.error).find(Boolean) ?? null;
  const look = (pin) => {
    const model = models[pin] ?? START;
    const on = shown(model);
    return { on, state: SHOWN[model.state], press: () => values.current[pin]?.input("set", on !== true) };
  };
  return html`
    <${Frame} ...${{ title, deviceId, state, error }} className="pinned">
      <${Pins} ...${settings} look=${look} draw=${Pin} />
    <//>
  `;
}

// A Value for each pin. They are asked for all at once, and what a device says of the others when one is switched is
// taken from it, too.
function valuesOf(deviceId, { pins, getMethod, getParams, setMethod, timeout }, onChange) {
  let asking = null;
  const ask = () => {
    asking ??= callDevice(deviceId, { method: getMethod, params: getParams, timeout })
      .then(statusOf)
      .finally(() => (asking = null));
    return asking;
  };
  const board = {};
  for (const { pin } of pins) {
    board[pin] = new Value({
      onChange: (model) => onChange(pin, model),
      read: async () => ({ value: (await ask())(pin) }),
      set: async (enabled) => {
        const call = { method: setMethod, params: { pin, enabled }, timeout };
        const status = statusOf(await callDevice(deviceId, call));
        for (const [other, value] of Object.entries(board)) if (other !== `${pin}`) value.input("push", status(other));
        return { value: status(pin) };
      },
    });
  }
  return board;
}

export function GpioPanel({ title, deviceId, settings }) {
  const { pins } = settings;
  const [on, setOn] = useState({});
  const [error, setError] = useState(null);
  useEffect(() => {
    setOn({});
    if (!deviceId) return undefined;
    const keys = pins.map(({ pin }) => `${pin}`);
    const aborted = new AbortController();
    const take = (values) => {
      const news = keys.filter((key) => Object.hasOwn(values, key)).map((key) => [key, isOn(values[key])]);
      setOn((old) => ({ ...old, ...Object.fromEntries(news) }));
    };
    const load = async () => {
      try {
        const found = await telemetry(deviceId, keys, aborted.signal);
        take(Object.fromEntries(Object.entries(found).map(([key, { value }]) => [key, value])));
        setError(null);
      } catch (failed) {
        if (!aborted.signal.aborted) setError(failed);
      }
    };
    const end = watchValues(deviceId, (values, source) => source === "timeseries" && take(values), load);
    load();
    return () => {
      end();
      aborted.abort();
    };
  }, [deviceId, JSON.stringify(settings)]);
  const look = (pin) => ({ on: on[pin], state: on[pin] === undefined ? "unknown" : "confirmed" });
  return html`
    <${Frame} ...${{ title, deviceId, state: error ? "failed" : "idle", error }} className="pinned">
      <${Pins} ...${settings} look=${look} draw=${Lamp} />
    <//>
  `;
}

// -- how they lie

// `look(pin)` is how each is; `draw` is the component of one.
function Pins({ layout, pins, look, draw }) {
  if (layout !== "raspberry") {
    return html`
      <ul class="pins" tabindex="0" aria-label="Pins">
        ${pins.map((each) => html`
          <li key=${each.pin}><${draw} pin=${each.pin} label=${labelOf(each, layout)} ...${look(each.pin)} /></li>`)}
      </ul>
    `;
  }
  const known = new Map(pins.map((each) => [each.pin, each]));
  return html`
    <ol class="pins raspberry" tabindex="0" aria-label="Pins">
      ${HEADER.map((name, index) => {
        const each = known.get(index + 1);
        return html`
          <li key=${index} class=${index % 2 ? "right" : "left"}>
            ${each
              ? html`<${draw} pin=${each.pin} label=${labelOf(each, layout)} ...${look(each.pin)} />`
              : html`<span class="pin other"><span class="label">${name}</span><span class="number">${index + 1}</span></span>`}
          </li>`;
      })}
    </ol>
  `;
}

const word = (on) => (on === undefined ? "unknown" : on ? "on" : "off");

function Pin({ pin, label, on, state, press }) {
  return html`
    <button class="pin ${word(on)} ${state}" role="switch" aria-checked=${on === true} data-state=${state}
      aria-label="Pin ${pin}, ${label}, ${word(on)}" onClick=${press}>
      <span class="label">${label}</span><span class="number">${pin}</span><span class="dot"></span>
    </button>
  `;
}

function Lamp({ pin, label, on }) {
  return html`
    <span class="pin ${word(on)}" role="img" aria-label="Pin ${pin}, ${label}, ${word(on)}">
      <span class="label">${label}</span><span class="number">${pin}</span><span class="dot"></span>
    </span>
  `;
}
