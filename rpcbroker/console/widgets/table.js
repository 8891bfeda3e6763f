// Which component shows each type of widget. Each is given {title, deviceId, settings}.

import { Button } from "./button.js";
import { Led } from "./led.js";
import { Knob, Slider, Stepper } from "./numbers.js";
import { PersistentTable } from "./persistent_table.js";
import { GpioControl, GpioPanel } from "./pins.js";
import { RemoteShell } from "./shell.js";
import { Terminal } from "./terminal.js";
import { PowerButton, RoundSwitch, SlideToggle, Switch } from "./toggles.js";

export const COMPONENTS = {
  button: Button,
  gpio_control: GpioControl,
  gpio_panel: GpioPanel,
  knob: Knob,
  led: Led,
  persistent_table: PersistentTable,
  power_button: PowerButton,
  round_switch: RoundSwitch,
  shell: RemoteShell,
  slide_toggle: SlideToggle,
  slider: Slider,
  stepper: Stepper,
  switch: Switch,
  terminal: Terminal,
};
