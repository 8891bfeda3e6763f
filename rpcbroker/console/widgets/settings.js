// The settings of widgets: what is stored is read carefully, for boards come from anybody of the tenant; what is typed is
// checked.

const MAX_TEXT = 1_000;
const MAX_PINS = 64;
const MAX_PIN = 1_000;

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isPin = (value) => {
  const { pin, label } = value ?? {};
  return Number.isInteger(pin) && pin >= 0 && pin <= MAX_PIN && typeof label === "string" && label.length <= MAX_TEXT;
};

// Kind: whether a stored value is one; how it is typed; and what is made of what was typed, which raises an Error with
// a sentence if that is nothing.
const KINDS = {
  text: {
    fits: (value) => typeof value === "string" && value.length <= MAX_TEXT,
    write: (value) => value,
    read: (typed) => typed,
  },
  number: { fits: isNumber, write: String, read: readNumber },
  truth: { fits: (value) => typeof value === "boolean", write: (value) => value, read: (typed) => typed },
  choice: {
    fits: (value, { choices }) => choices.some((each) => (Array.isArray(each) ? each[0] : each) === value),
    write: (value) => value,
    read: (typed) => typed,
  },
  json: { fits: (value) => value !== undefined, write: (value) => JSON.stringify(value), read: readJson },
  pins: {
    fits: (value) => Array.isArray(value) && value.length > 0 && value.length <= MAX_PINS && value.every(isPin),
    write: (value) => value.map(({ pin, label }) => (label ? `${pin} = ${label}` : `${pin}`)).join(", "),
    read: readPins,
  },
};

function readNumber(typed) {
  const value = Number(typed);
  if (typed.trim() === "" || !isNumber(value)) throw new Error("This must be a number.");
  return value;
}

function readJson(typed, { loose }) {
  try {
    return JSON.parse(typed);
  } catch {
    if (loose) return typed;
    throw new Error('This must be JSON: a text needs quotes, like "on".');
  }
}

function readPins(typed) {
  const found = new Map();
  for (const part of typed.split(",").filter((each) => each.trim())) {
    const [, digits, label] = /^\s*(\d{1,4})\s*(?:=\s*(.*?)\s*)?$/.exec(part) ?? [];
    if (digits === undefined || Number(digits) > MAX_PIN) throw new Error(`“${part.trim()}” is no pin.`);
    found.set(Number(digits), label ?? "");
  }
  if (!found.size || found.size > MAX_PINS) throw new Error(`There must be 1 to ${MAX_PINS} pins.`);
  return Array.from(found, ([pin, label]) => ({ pin, label }));
}

// What is wrong with a value of the right kind; undefined if nothing is.
function complaint(value, { kind, needed, least, most, above, whole }) {
  if (kind === "text") {
    if (needed && !value.trim()) return "This must not be empty.";
    if (most !== undefined && value.length > most) return `This may have ${most} characters.`;
  }
  if (kind === "number") {
    if (whole && !Number.isInteger(value)) return "This must be a whole number.";
    if (least !== undefined && value < least) return `This must be at least ${least}.`;
    if (most !== undefined && value > most) return `This must be at most ${most}.`;
    if (above !== undefined && value <= above) return `This must be above ${above}.`;
  }
  return undefined;
}

function good(value, field) {
  return KINDS[field.kind].fits(value, field) && complaint(value, field) === undefined;
}

// All settings: those of `stored` that are good, else what they are at first.
export function settled(fields, stored) {
  const given = typeof stored === "object" && stored !== null ? stored : {};
  const settings = Object.fromEntries(
    fields.map((field) => [
      field.name,
      Object.hasOwn(given, field.name) && good(given[field.name], field) ? given[field.name] : field.value,
    ]),
  );
  if (!(settings.most > settings.least)) {
    for (const { name, value } of fields) if (name === "least" || name === "most") settings[name] = value;
  }
  return settings;
}

// As they are typed in a form: texts, and truths.
export function written(fields, settings) {
  return Object.fromEntries(fields.map((field) => [field.name, KINDS[field.kind].write(settings[field.name])]));
}

// {settings, errors} of what was typed; `errors` has a sentence for each field that is wrong.
export function typedSettings(fields, typed) {
  const settings = {};
  const errors = {};
  for (const field of fields) {
    try {
      settings[field.name] = KINDS[field.kind].read(typed[field.name], field);
      const wrong = complaint(settings[field.name], field);
      if (wrong) errors[field.name] = wrong;
    } catch (error) {
      errors[field.name] = error.message;
    }
  }
  if (settings.most <= settings.least) errors.most ??= "This must be above the lowest value.";
  return { settings, errors };
}
