// Widgets that hold a number: knob, slider, value stepper.

import { html, useRef } from "../vendor/htm-preact.js";
import { Frame } from "./frame.js";
import { angleOf, numberOf, stepped, valueAt } from "./scale.js";
import { useValue } from "./use_value.js";
import { SHOWN, shown } from "./value.js";

const own = (value) => value;

function useNumber({ title, deviceId, settings }) {
  const [model, set] = useValue(deviceId, settings, { read: numberOf, params: own });
  const value = shown(model);
  const text = value === undefined ? "unknown" : `${value}${settings.unit && ` ${settings.unit}`}`;
  const frame = { title, deviceId, state: SHOWN[model.state], error: model.error };
  return { value, text, set: (wanted) => wanted !== value && set(wanted), frame };
}

// -- knob

const R = 40;
const FROM = -135; // degrees, from the top, clockwise

const KEYS = {
  ArrowUp: 1,
  ArrowRight: 1,
  ArrowDown: -1,
  ArrowLeft: -1,
  PageUp: 10,
  PageDown: -10,
};

function point(degrees, radius) {
  const angle = (degrees * Math.PI) / 180;
  return `${50 + radius * Math.sin(angle)} ${50 - radius * Math.cos(angle)}`;
}

function arc(to) {
  return `M ${point(FROM, R)} A ${R} ${R} 0 ${to - FROM > 180 ? 1 : 0} 1 ${point(to, R)}`;
}

export function Knob(widget) {
  const { settings } = widget;
  const { least, most, initial } = settings;
  const { value, text, set, frame } = useNumber(widget);
  const knob = useRef(null);
  const at = value ?? initial;
  const angle = angleOf(at, settings);
  const turn = (event) => {
    if (!event.buttons && event.type === "pointermove") return;
    const { left, top, width, height } = knob.current.getBoundingClientRect();
    const degrees = (Math.atan2(event.clientX - left - width / 2, top + height / 2 - event.clientY) * 180) / Math.PI;
    set(valueAt(degrees, settings));
  };
  const press = (event) => {
    knob.current.setPointerCapture(event.pointerId);
    turn(event);
  };
  const key = (event) => {
    const next =
      event.key in KEYS ? stepped(at, KEYS[event.key], settings) : { Home: least, End: most }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    set(next);
  };
  return html`
    <${Frame} ...${frame}>
      <div ref=${knob} class="knob ${value === undefined ? "unknown" : ""}" role="slider" tabindex="0"
        aria-label=${widget.title} aria-valuemin=${least} aria-valuemax=${most} aria-valuenow=${at} aria-valuetext=${text}
        onKeyDown=${key} onPointerDown=${press} onPointerMove=${turn}>
        <svg viewBox="0 0 100 88" aria-hidden="true">
          <path class="track" d=${arc(-FROM)} />
          <path class="passed" d=${arc(Math.max(angle, FROM + 0.1))} />
          <circle class="cap" cx="50" cy="50" r="29" />
          <path class="mark" d="M ${point(angle, 14)} L ${point(angle, 25)}" />
        </svg>
      </div>
      <output class="word">${text}</output>
    <//>
  `;
}

// -- slider

export function Slider(widget) {
  const { least, most, step, initial } = widget.settings;
  const { value, text, set, frame } = useNumber(widget);
  return html`
    <${Frame} ...${frame}>
      <input class=${value === undefined ? "unknown" : ""} type="range" min=${least} max=${most} step=${step}
        value=${value ?? initial} aria-label=${widget.title} aria-valuetext=${text}
        onInput=${(event) => set(Number(event.target.value))} />
      <output class="word">${text}</output>
    <//>
  `;
}

// -- value stepper

export function Stepper(widget) {
  const { settings } = widget;
  const { least, most, initial } = settings;
  const { value, text, set, frame } = useNumber(widget);
  const at = value ?? initial;
  const by = (steps) => set(stepped(at, steps, settings));
  const key = (event) => {
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (!steps) return;
    event.preventDefault();
    by(steps);
  };
  return html`
    <${Frame} ...${frame}>
      <div class="stepper">
        <button aria-label="Less" disabled=${at <= least} onClick=${() => by(-1)}>−</button>
        <span class="word ${value === undefined ? "unknown" : ""}" role="spinbutton" tabindex="0" aria-label=${widget.title}
          aria-valuemin=${least} aria-valuemax=${most} aria-valuenow=${at} aria-valuetext=${text} onKeyDown=${key}>
          ${text}
        </span>
        <button aria-label="More" disabled=${at >= most} onClick=${() => by(1)}>+</button>
      </div>
    <//>
  `;
}
