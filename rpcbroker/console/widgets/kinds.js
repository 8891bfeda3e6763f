// All widgets: what each is called, how large it is at first, and at least, in cells of a board, and what can be set of
// it. The methods and params are those of ThingsBoard's widgets, so that devices made for them work here.

// A setting: `kind` is one of those in settings.js, `value` what it is if nothing is chosen.
const text = (name, label, value, more) => ({ name, label, kind: "text", value, ...more });
const number = (name, label, value, more) => ({ name, label, kind: "number", value, ...more });
const truth = (name, label, value, more) => ({ name, label, kind: "truth", value, ...more });
const choice = (name, label, value, choices, more) => ({ name, label, kind: "choice", value, choices, ...more });
const json = (name, label, value, more) => ({ name, label, kind: "json", value, ...more });

const METHOD = { most: 255, needed: true };
const TIMEOUT = number("timeout", "Timeout of requests, ms", 5_000, { least: 1, most: 86_400_000, whole: true });
const PERSISTENT = [
  truth("persistent", "Persistent requests: the broker keeps them until the device can be called", false),
  number("pollingInterval", "Ask what became of a persistent request each, ms", 5_000, {
    least: 1_000,
    most: 3_600_000,
    whole: true,
    hint: "Only while nothing is told of it.",
  }),
];
const KEY = text("key", "Attribute or telemetry that is followed", "value", {
  most: 255,
  hint: "What the device tells by this name is shown at once. Empty: nothing is followed.",
});

function valued(name) {
  return [
    choice("source", "The first value comes from", "rpc", [
      ["rpc", "the device, which is asked"],
      ["attribute", "its attribute"],
      ["timeseries", "its telemetry"],
    ]),
    text("getMethod", "Method that asks for it", `get${name}`, METHOD),
    { ...KEY, value: name.toLowerCase() },
    text("setMethod", "Method that changes it", `set${name}`, METHOD),
    truth("twoway", "Changes wait for the device's reply", false, {
      hint: "Else they are sent one way, as such devices expect it.",
    }),
    truth("check", "Ask again after a change that is not replied to", true, {
      hint: "Nothing else shows that the device has done it, unless it tells its value by itself.",
    }),
    TIMEOUT,
    ...PERSISTENT,
  ];
}

const ON_OFF = [
  json("onValue", "Value for on", true),
  json("offValue", "Value for off", false),
  text("onLabel", "Word for on", "On", { most: 40 }),
  text("offLabel", "Word for off", "Off", { most: 40 }),
];

function range(initial) {
  return [
    number("least", "Lowest value", 0),
    number("most", "Highest value", 100),
    number("step", "Step", 1, { above: 0 }),
    number("initial", "Where it stands while nothing is known", initial),
    text("unit", "Unit", "", { most: 20 }),
  ];
}

const LAYOUT = choice("layout", "Layout", "basic", [
  ["basic", "basic"],
  ["raspberry", "Raspberry Pi"],
]);
const pins = (value) => ({
  name: "pins",
  label: "Pins",
  kind: "pins",
  value,
  hint: "Such as: 7, 11 = Lamp, 12 = Fan. The Raspberry Pi has 40.",
});
const USUAL_PINS = [7, 11, 12, 13, 15, 16, 18, 22, 29].map((pin) => ({ pin, label: "" }));

export const KINDS = [
  {
    type: "switch",
    title: "Switch",
    size: [3, 3],
    least: [2, 2],
    settings: [...valued("Value"), ...ON_OFF],
  },
  {
    type: "slide_toggle",
    title: "Slide toggle",
    size: [3, 3],
    least: [2, 2],
    settings: [...valued("Value"), ...ON_OFF],
  },
  {
    type: "round_switch",
    title: "Round switch",
    size: [3, 4],
    least: [2, 3],
    settings: [...valued("Value"), ...ON_OFF],
  },
  {
    type: "power_button",
    title: "Power button",
    size: [3, 4],
    least: [2, 3],
    settings: [...valued("State"), ...ON_OFF],
  },
  {
    type: "knob",
    title: "Knob",
    size: [3, 4],
    least: [2, 4],
    settings: [...valued("Value"), ...range(50)],
  },
  {
    type: "slider",
    title: "Slider",
    size: [4, 3],
    least: [3, 3],
    settings: [...valued("State"), ...range(0)],
  },
  {
    type: "stepper",
    title: "Value stepper",
    size: [3, 3],
    least: [3, 3],
    settings: [...valued("State"), ...range(0)],
  },
  {
    type: "led",
    title: "LED indicator",
    size: [2, 3],
    least: [2, 3],
    settings: [
      truth("performCheck", "Ask the device first whether it is well", true),
      text("checkMethod", "Method that asks", "checkStatus", METHOD),
      choice("source", "The value comes from", "latest", [
        ["latest", "the attribute or the telemetry, whichever is newer"],
        ["attribute", "its attribute"],
        ["timeseries", "its telemetry"],
      ]),
      { ...KEY, needed: true },
      json("onValue", "Value for on", true),
      choice("colour", "Colour", "green", ["green", "red", "amber", "blue"]),
      TIMEOUT,
    ],
  },
  {
    type: "button",
    title: "RPC button",
    size: [3, 3],
    least: [2, 2],
    settings: [
      text("label", "What it says", "Send RPC", { most: 60, needed: true }),
      text("method", "Method", "rpcCommand", METHOD),
      json("params", "Params", {}, { loose: true, hint: "JSON; what is none is sent as text." }),
      truth("oneway", "One-way: wait for no reply", true),
      truth("confirm", "Ask before it is sent", false),
      TIMEOUT,
      ...PERSISTENT,
    ],
  },
  {
    type: "gpio_control",
    title: "GPIO control",
    size: [5, 6],
    least: [3, 3],
    settings: [
      LAYOUT,
      pins(USUAL_PINS),
      text("getMethod", "Method that asks for all pins", "getGpioStatus", METHOD),
      json("getParams", "Its params", "{}", { hint: "ThingsBoard's widgets send the text \"{}\"." }),
      text("setMethod", "Method that switches one", "setGpioStatus", METHOD),
      truth("follow", "Follow telemetry and attributes that are named like the pins", true),
      TIMEOUT,
    ],
  },
  {
    type: "gpio_panel",
    title: "GPIO panel",
    size: [5, 6],
    least: [3, 3],
    settings: [LAYOUT, pins(USUAL_PINS)],
  },
  {
    type: "terminal",
    title: "RPC debug terminal",
    size: [6, 5],
    least: [4, 4],
    settings: [truth("oneway", "One-way: wait for no reply", false), TIMEOUT],
  },
  {
    type: "shell",
    title: "RPC remote shell",
    size: [6, 5],
    least: [4, 4],
    settings: [TIMEOUT],
  },
  {
    type: "persistent_table",
    title: "Persistent RPC table",
    size: [12, 6],
    least: [6, 4],
    settings: [
      number("pageSize", "Rows", 10, { least: 1, most: 100, whole: true }),
      truth("allowSend", "Calls can be made here", true),
      truth("allowDelete", "Calls can be deleted here", true),
    ],
  },
];

export const kindOf = (type) => KINDS.find((kind) => kind.type === type);
