// Numbers from the least to the most, in steps, and where a knob points for each.

const TURN = 270; // degrees from the least to the most, symmetrical to the top

// The number that a device says, also as text. Raises an Error for anything else.
export function numberOf(raw) {
  const value = typeof raw === "string" && raw.trim() !== "" ? Number(raw) : raw;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new Error(`The device's value is no number: ${JSON.stringify(raw)}`.slice(0, 200));
}

// The next one that is a whole number of steps above the least.
export function rounded(value, { least, most, step }) {
  const inside = Math.min(Math.max(value, least), most);
  const on = least + Math.round((inside - least) / step) * step;
  return Number((on > most ? on - step : on).toPrecision(12)); // 0.1 + 0.2 is 0.3 to people
}

// That many steps on.
export function stepped(value, steps, scale) {
  return rounded(value + steps * scale.step, scale);
}

// Degrees from the top, clockwise.
export function angleOf(value, { least, most }) {
  const inside = Math.min(Math.max(value, least), most);
  return ((inside - least) / (most - least) - 0.5) * TURN;
}

// The other way round; below, where a knob points to nothing, the nearer end.
export function valueAt(degrees, scale) {
  const { least, most } = scale;
  return rounded(least + (Math.min(Math.max(degrees / TURN + 0.5, 0), 1)) * (most - least), scale);
}
