// Who there is: users, customers, API keys; for system administrators tenants.

import { html } from "../vendor/htm-preact.js";
import { session } from "../session.js";
import { Customers } from "./customers.js";
import { Keys } from "./keys.js";
import { Tenants } from "./tenants.js";
import { Users } from "./users.js";

// [name in the address, title, component, who may]
const TABS = [
  ["tenants", "Tenants", Tenants, ["SYS_ADMIN"]],
  ["users", "Users", Users, ["TENANT_ADMIN", "SYS_ADMIN"]],
  ["customers", "Customers", Customers, ["TENANT_ADMIN"]],
  ["keys", "API keys", Keys, ["TENANT_ADMIN", "SYS_ADMIN"]],
];

export default function People({ params }) {
  const tabs = TABS.filter(([, , , who]) => who.includes(session.user.authority));
  const [shown, , Tab] = tabs.find(([name]) => name === params.tab) ?? tabs[0];
  return html`
    <h1>${session.user.authority === "SYS_ADMIN" ? "Tenants and users" : "Users and customers"}</h1>
    <nav class="tabs" aria-label="Who">
      ${tabs.map(([name, title]) => html`<a key=${name} href="#/people?tab=${name}" aria-current=${name === shown ? "page" : undefined}>${title}</a>`)}
    </nav>
    <${Tab} key=${shown} />
  `;
}
