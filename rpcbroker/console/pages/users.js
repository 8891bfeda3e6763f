// Users: made with a link by which they choose a password.

import { html, useState } from "../vendor/htm-preact.js";
import { request, session } from "../session.js";
import { Copy } from "../parts/copy.js";
import { confirm, Dialog } from "../parts/dialog.js";
import { Field } from "../parts/field.js";
import { Loaded, useLoad } from "../parts/load.js";
import { Pager, Table } from "../parts/table.js";
import { Time } from "../parts/time.js";
import { toast } from "../parts/toast.js";

const PAGE_SIZE = 20;
const ROLES = { SYS_ADMIN: "System administrator", TENANT_ADMIN: "Administrator", CUSTOMER_USER: "Customer's user" };

// Those that one's own role handles; of one tenant or customer with `of`, the path where they are: there the new ones
// have the `role`, and what `place` says of a user.
export function Users({ of = "/api/users", role = null, place = {} }) {
  const [page, setPage] = useState(0);
  const [text, setText] = useState("");
  const [sort, setSort] = useState({ property: "email", order: "ASC" });
  const [making, setMaking] = useState(false);
  const [invited, setInvited] = useState(null);
  const query = { pageSize: PAGE_SIZE, page, textSearch: text, sortProperty: sort.property, sortOrder: sort.order };
  const loaded = useLoad((signal) => request("GET", of, { query, signal }), [of, page, text, sort]);

  const act = async (question, method, path, options) => {
    if (question && !(await confirm(question))) return false;
    try {
      await request(method, path, options);
      loaded.reload();
      return true;
    } catch (error) {
      toast(error);
      return false;
    }
  };
  const invite = async (user) => {
    try {
      setInvited({ user, link: await request("GET", `/api/user/${user.id.id}/activationLink`) });
    } catch (error) {
      toast(error);
    }
  };
  const enable = (user, on) =>
    act(
      on ? null : { title: `Keep ${user.email} out?`, text: "The sessions end, and the API keys are refused, until the user is let in again.", action: "Disable", danger: true },
      "POST",
      `/api/user/${user.id.id}/userCredentialsEnabled`,
      { query: { userCredentialsEnabled: on } },
    );
  const remove = (user) =>
    act({ title: `Delete ${user.email}?`, text: "The sessions end, and the user's API keys are gone.", action: "Delete", danger: true }, "DELETE", `/api/user/${user.id.id}`);
  const reset = async (user) => {
    const question = { title: `Take ${user.email}'s password away?`, text: "The sessions end. A new link lets the user choose another password.", action: "Reset", danger: true };
    if (await act(question, "POST", `/api/user/${user.id.id}/resetPassword`)) invite(user);
  };

  const columns = [
    { title: "E-mail", sort: "email", render: (user) => user.email },
    { title: "Role", wide: true, render: (user) => ROLES[user.authority] },
    { title: "State", render: ({ additionalInfo: info }) => (!info.userCredentialsEnabled ? html`<span class="bad">disabled</span>` : info.userActivated ? html`<span class="good">active</span>` : html`<span class="warn">invited</span>`) },
    { title: "Created", wide: true, sort: "createdTime", render: (user) => html`<${Time} ms=${user.createdTime} />` },
    {
      title: "Actions",
      render: (user) => {
        if (user.id.id === session.user.id.id) return html`<span class="quiet">you</span>`;
        const { userCredentialsEnabled: enabled, userActivated: active } = user.additionalInfo;
        return html`
          <div class="row">
            ${active ? html`<button onClick=${() => reset(user)}>Reset password…</button>` : html`<button onClick=${() => invite(user)}>Activation link</button>`}
            <button onClick=${() => enable(user, !enabled)}>${enabled ? "Disable…" : "Enable"}</button>
            <button class="danger" onClick=${() => remove(user)}>Delete…</button>
          </div>`;
      },
    },
  ];
  const search = (next) => {
    setPage(0);
    setText(next);
  };
  return html`
    <div class="filters">
      <${Field} label="Search" type="search" value=${text} onInput=${search} />
      <button class="primary" onClick=${() => setMaking(true)}>New user…</button>
    </div>
    <${Loaded} of=${loaded}>
      ${(users) => html`
        <${Table} label="Users" columns=${columns} rows=${users.data} keyOf=${(user) => user.id.id} sort=${sort} onSort=${setSort} />
        <${Pager} page=${page} of=${users} onPage=${setPage} />
      `}
    <//>
    ${making && html`<${Make} role=${role} place=${place} onClose=${() => setMaking(false)} onMade=${(user) => (loaded.reload(), invite(user))} />`}
    ${invited && html`<${Invitation} ...${invited} onClose=${() => setInvited(null)} />`}
  `;
}

function Invitation({ user, link, onClose }) {
  return html`
    <${Dialog} title="Activation link" onClose=${onClose}>
      <p>Give this link to <b>${user.email}</b>, and to nobody else: who opens it chooses the password.</p>
      <pre tabindex="0" class="json">${link}</pre>
      <div class="actions"><${Copy} text=${link} label="Copy the link" /><button class="primary" onClick=${onClose}>Close</button></div>
    <//>
  `;
}

function Make({ role, place, onClose, onMade }) {
  const own = session.user.authority;
  const roles = role ? [role] : own === "SYS_ADMIN" ? ["SYS_ADMIN"] : ["TENANT_ADMIN", "CUSTOMER_USER"];
  const [given, setGiven] = useState({ email: "", firstName: "", lastName: "", authority: roles[0], customer: "" });
  const set = (name) => (value) => setGiven({ ...given, [name]: value });
  const chooses = given.authority === "CUSTOMER_USER" && !place.customerId;
  const query = { pageSize: 1_000, page: 0, sortProperty: "title" };
  const customers = useLoad((signal) => (own === "TENANT_ADMIN" ? request("GET", "/api/customers", { query, signal }) : { data: [] }), []).value?.data ?? [];
  const make = async (event) => {
    event.preventDefault();
    const { customer, ...user } = given;
    const body = { ...user, ...place, ...(chooses && { customerId: { entityType: "CUSTOMER", id: customer } }) };
    try {
      const made = await request("POST", "/api/user", { query: { sendActivationMail: false }, body });
      onClose();
      onMade(made);
    } catch (error) {
      toast(error);
    }
  };
  return html`
    <${Dialog} title="New user" onClose=${onClose}>
      <form class="form" onSubmit=${make}>
        <${Field} label="E-mail" type="email" required value=${given.email} onInput=${set("email")} autocomplete="off" />
        <div class="fields">
          <${Field} label="First name" value=${given.firstName} onInput=${set("firstName")} autocomplete="off" />
          <${Field} label="Last name" value=${given.lastName} onInput=${set("lastName")} autocomplete="off" />
        </div>
        <${Field} label="Role" type="select" value=${given.authority} onInput=${set("authority")} options=${roles.map((each) => [each, ROLES[each]])} />
        ${chooses && html`<${Field} label="Customer" type="select" required value=${given.customer} onInput=${set("customer")} options=${[["", ""], ...customers.map(({ id, title }) => [id.id, title])]} />`}
        <div class="actions"><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Create</button></div>
      </form>
    <//>
  `;
}
