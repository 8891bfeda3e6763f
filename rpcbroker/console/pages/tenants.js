// Tenants, with their administrators; for system administrators.

import { html } from "../vendor/htm-preact.js";
import { TitledList } from "./titled.js";

const warning = () => "Its users, customers, devices and rule chains are gone for ever.";

export function Tenants() {
  return html`<${TitledList} noun="tenant" members="Administrators" role="TENANT_ADMIN" warning=${warning} />`;
}
