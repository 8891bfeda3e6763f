// Pins: what a device says of them, and where they lie.

import { accepted } from "./answers.js";

// The reply to `getGpioStatus` and `setGpioStatus`: pin -> on, where only `true` is on. Raises an Error for what is no
// map of pins.
export function statusOf(reply) {
  accepted(reply);
  if (typeof reply !== "object" || reply === null || Array.isArray(reply)) {
    throw new Error("The device's reply is no map of pins");
  }
  return (pin) => reply[pin] === true;
}

// As telemetry tells it.
export const isOn = (value) => value === true || value === "true";

// The 40 pins of a Raspberry Pi: odd ones left, even ones right, from above to below (pinout.xyz).
export const HEADER = [
  "3.3 V", "5 V", "GPIO 2 (SDA)", "5 V", "GPIO 3 (SCL)", "GND", "GPIO 4 (GPCLK0)", "GPIO 14 (TXD)",
  "GND", "GPIO 15 (RXD)", "GPIO 17", "GPIO 18 (PCM_CLK)", "GPIO 27", "GND", "GPIO 22", "GPIO 23",
  "3.3 V", "GPIO 24", "GPIO 10 (MOSI)", "GND", "GPIO 9 (MISO)", "GPIO 25", "GPIO 11 (SCLK)", "GPIO 8 (CE0)",
  "GND", "GPIO 7 (CE1)", "ID_SD", "ID_SC", "GPIO 5", "GND", "GPIO 6", "GPIO 12 (PWM0)",
  "GPIO 13 (PWM1)", "GND", "GPIO 19 (MISO)", "GPIO 16", "GPIO 26", "GPIO 20 (MOSI)", "GND", "GPIO 21 (SCLK)",
];

// The name of a pin that was given none.
export function labelOf({ pin, label }, layout) {
  if (label) return label;
  return (layout === "raspberry" && HEADER[pin - 1]) || `GPIO ${pin}`;
}
