// Something new that has a title, and no more: a customer, a tenant.

import { html, useState } from "../vendor/htm-preact.js";
import { request } from "../session.js";
import { Dialog } from "./dialog.js";
import { Field } from "./field.js";
import { toast } from "./toast.js";

// `title` is the dialog's, `path` where it is posted to; `onMade()` when it is there.
export function Titled({ title, path, onClose, onMade }) {
  const [text, setText] = useState("");
  const make = async (event) => {
    event.preventDefault();
    try {
      await request("POST", path, { body: { title: text } });
      onMade();
      onClose();
    } catch (error) {
      toast(error);
    }
  };
  return html`
    <${Dialog} title=${title} onClose=${onClose}>
      <form class="form" onSubmit=${make}>
        <${Field} label="Title" required value=${text} onInput=${setText} autocomplete="off" />
        <div class="actions"><button type="button" onClick=${onClose}>Cancel</button><button class="primary">Create</button></div>
      </form>
    <//>
  `;
}
