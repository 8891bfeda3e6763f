// How a device proves who it is. Secrets are asked for, and shown, only when somebody clicks: the audit log has it.

import { html, useState } from "../vendor/htm-preact.js";
import { endpoints } from "../endpoints.js";
import { request, session } from "../session.js";
import { snippets } from "../snippets.js";
import { Copy, Snippet } from "./copy.js";
import { confirm } from "./dialog.js";
import { Failed } from "./load.js";
import { toast } from "./toast.js";

export function Credentials({ deviceId }) {
  const [shown, setShown] = useState(null);
  const [error, setError] = useState(null);
  const show = async () => {
    setError(null);
    try {
      const [credentials, at] = await Promise.all([
        request("GET", `/api/device/${deviceId}/credentials`),
        endpoints(),
      ]);
      setShown({ credentials, at });
    } catch (failed) {
      setError(failed);
    }
  };
  if (!shown) {
    return html`
      <button onClick=${show}>Show credentials</button>
      ${error && html`<${Failed} error=${error} />`}
    `;
  }
  return html`<${Shown} ...${shown} deviceId=${deviceId} onChange=${show} onHide=${() => setShown(null)} />`;
}

function Shown({ credentials, at, deviceId, onChange, onHide }) {
  const { credentialsType, credentialsId, credentialsValue } = credentials;
  const renew = async () => {
    const yes = await confirm({
      title: "New access token?",
      text: "A connection that was made with the old one is closed, and nothing can connect with it any more.",
      action: "Make a new token",
      danger: true,
    });
    if (!yes) return;
    try {
      const { id, deviceId: device, version } = credentials;
      const body = { id, deviceId: device, version, credentialsType: "ACCESS_TOKEN" };
      await request("POST", "/api/device/credentials", { body });
      toast("The device has a new access token.");
      onChange();
    } catch (failed) {
      toast(failed);
    }
  };
  const words = { ACCESS_TOKEN: "Access token", MQTT_BASIC: "MQTT login", X509_CERTIFICATE: "Certificate, by its SHA3 fingerprint" };
  const secret = credentialsType === "MQTT_BASIC" ? credentialsValue : credentialsId;
  return html`
    <div class="row">
      <span class="quiet">${words[credentialsType] ?? credentialsType}</span>
      <code class="secret">${secret}</code>
      <${Copy} text=${secret} />
      <button onClick=${onHide}>Hide</button>
      ${session.user.authority === "TENANT_ADMIN" && html`<button onClick=${renew}>New access token…</button>`}
    </div>
    <div class="snippets">
      ${snippets({ at, credentials, deviceId }).map(([title, text]) => html`<${Snippet} key=${title} title=${title} text=${text} />`)}
    </div>
  `;
}
