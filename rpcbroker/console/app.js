// The shell: who is signed in, where one is, and the page that is shown there.

import { html, render, useEffect, useErrorBoundary, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { DialogHost } from "./parts/dialog.js";
import { Field } from "./parts/field.js";
import { Toasts } from "./parts/toast.js";
import { feedState, onFeedState } from "./feed.js";
import { onSession, session, signIn, signOut } from "./session.js";

const USERS = ["TENANT_ADMIN", "CUSTOMER_USER"];
const ADMINS = ["TENANT_ADMIN"];
const ALL_ADMINS = ["TENANT_ADMIN", "SYS_ADMIN"];

// [pattern, title, module, who may, whether it stands in the navigation]. A page is the default export of its module,
// a component that is given `params`: what stands for the names in the pattern, and what is in the query behind it
// (#/calls?state=FAILED). Modules are loaded when they are first shown.
const routes = [
  ["#/overview", "Overview", () => import("./pages/overview.js"), USERS, true],
  ["#/devices", "Devices", () => import("./pages/devices.js"), USERS, true],
  ["#/device/:id", "Device", () => import("./pages/device.js"), USERS],
  ["#/boards", "Boards", () => import("./pages/boards.js"), USERS, true],
  ["#/board/:id", "Board", () => import("./pages/board.js"), USERS],
  ["#/board/device/:deviceId", "Board", () => import("./pages/board.js"), USERS],
  ["#/calls", "Calls", () => import("./pages/calls.js"), USERS, true],
  ["#/call/:id", "Call", () => import("./pages/call.js"), USERS],
  ["#/persistent", "Persistent calls", () => import("./pages/persistent.js"), USERS, true],
  ["#/bulk", "Bulk calls", () => import("./pages/bulk.js"), USERS, true],
  ["#/chains", "Rule chains", () => import("./pages/chains.js"), ADMINS, true],
  ["#/chain/:id", "Rule chain", () => import("./pages/chain.js"), ADMINS],
  ["#/people", "Users and customers", () => import("./pages/people.js"), ALL_ADMINS, true],
];

const THEMES = ["auto", "light", "dark"];
const THEME = "rpcbroker.theme"; // the only thing that is kept in the browser

function allowed() {
  return routes.filter(([, , , who]) => who.includes(session.user.authority));
}

// The route of an address, and its params; null if there is no such page for this user.
function found(hash) {
  const [path, query = ""] = hash.split("?");
  const parts = path.split("/");
  for (const route of allowed()) {
    const pattern = route[0].split("/");
    const params = Object.fromEntries(new URLSearchParams(query));
    const fits = pattern.every((name, at) => {
      if (!name.startsWith(":")) return name === parts[at];
      params[name.slice(1)] = decoded(parts[at]);
      return Boolean(parts[at]);
    });
    if (fits && pattern.length === parts.length) return { route, params };
  }
  return null;
}

function decoded(text = "") {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Who listens begins at once, in a layout effect: others run a moment later, and would miss what happens before.

function useHash() {
  const [hash, setHash] = useState(location.hash);
  useLayoutEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return hash;
}

function App() {
  const [, redraw] = useState(0);
  useLayoutEffect(() => onSession(() => redraw((count) => count + 1)), []);
  return html`
    ${session.signedIn ? html`<${Console} />` : html`<${SignIn} />`}
    <${Toasts} />
    <${DialogHost} />
  `;
}

// -- signed out

function SignIn() {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Sign in – rpcbroker";
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await signIn(email, password);
    } catch (failed) {
      setError(failed);
      setPassword("");
      setBusy(false);
    }
  };
  return html`
    <main class="sign-in">
      <div class="top"><span class="brand">rpcbroker</span><${ThemeSwitch} /></div>
      <h1>Sign in</h1>
      ${session.ended && html`<p class="note">${session.ended}</p>`}
      <form onSubmit=${submit}>
        <${Field} label="E-mail" type="email" name="username" autocomplete="username" required autofocus
          value=${email} onInput=${setEmail} />
        <${Field} label="Password" type="password" name="password" autocomplete="current-password" required
          value=${password} onInput=${setPassword} />
        <button class="primary" disabled=${busy}>${busy ? "Signing in…" : "Sign in"}</button>
        <div role="alert">${error && html`<p class="bad">${error.message}${error.hint && `. ${error.hint}`}</p>`}</div>
      </form>
      <p class="quiet">
        First start? The broker wrote the first user's password to its log, and to
        ${" "}<code>initial-admin-password</code> in its state directory. Others choose theirs by the activation link that
        an administrator gives them.
      </p>
    </main>
  `;
}

// -- signed in

function Console() {
  const hash = useHash();
  const main = useRef(null);
  const shown = found(hash);
  useEffect(() => {
    if (/^#?\/?$/.test(hash)) location.replace(allowed()[0][0]);
  }, [hash]);
  useEffect(() => {
    if (!shown) location.replace(allowed()[0][0]); // who was here before may have seen more
    for (const [, , load] of allowed()) load().catch(() => {}); // so that all are there when the broker is not
  }, []);
  useEffect(() => {
    document.title = `${shown?.route[1] ?? "rpcbroker"} – rpcbroker`;
    if (hash) main.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [hash]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), main.current.focus())}>To the content</a>
    <${Side} hash=${hash} />
    <div class="content">
      ${session.user.authority !== "SYS_ADMIN" && html`<${FeedBanner} />`}
      <main id="main" tabindex="-1" ref=${main}>
        ${shown ? html`<${Page} key=${hash.split("?")[0]} ...${shown} />` : html`<h1>There is no such page</h1>`}
      </main>
    </div>
  `;
}

function Side({ hash }) {
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [hash]);
  const { email, authority } = session.user;
  const role = { TENANT_ADMIN: "Administrator", CUSTOMER_USER: "Customer's user", SYS_ADMIN: "System administrator" };
  return html`
    <header class="side">
      <div class="top">
        <a class="brand" href="#/">rpcbroker</a>
        ${authority !== "SYS_ADMIN" && html`<${FeedLamp} />`}
        <button class="menu" aria-expanded=${open} aria-controls="menu" onClick=${() => setOpen(!open)}>Menu</button>
      </div>
      <div id="menu" class=${open ? "open" : ""}>
        <nav aria-label="Pages">
          <ul>
            ${allowed().filter((route) => route[4]).map(([pattern, title]) => html`
              <li key=${pattern}>
                <a href=${pattern} aria-current=${at(hash, pattern) ? "page" : undefined}>${title}</a>
              </li>`)}
          </ul>
        </nav>
        <div class="who">
          <span class="mail" title=${email}>${email}</span>
          <span class="quiet">${role[authority]}</span>
          <div class="row"><${ThemeSwitch} /><button onClick=${signOut}>Sign out</button></div>
          <a class="quiet" href="/docs" target="_blank" rel="noreferrer">API document</a>
        </div>
      </div>
    </header>
  `;
}

// Whether an entry of the navigation is where one is: #/devices is for #/device/… too.
function at(hash, pattern) {
  const path = hash.split("?")[0];
  return path === pattern || path.startsWith(`${pattern.replace(/s$/, "")}/`);
}

function Page({ route, params }) {
  const [, title, load] = route;
  const [loaded, setLoaded] = useState(null);
  const [failed, setFailed] = useState(false);
  const [broken, again] = useErrorBoundary(console.error);
  const fetchIt = () => {
    setFailed(false);
    load().then((module) => setLoaded(() => module.default), () => setFailed(true));
  };
  useEffect(fetchIt, [load]);
  if (broken) {
    return html`
      <h1>${title}</h1>
      <p class="bad" role="alert">This page cannot show what it was given: ${broken.message}</p>
      <button onClick=${again}>Try again</button>
    `;
  }
  if (loaded) return html`<${loaded} params=${params} />`;
  if (!failed) return html`<p class="quiet" role="status">Loading…</p>`;
  return html`
    <h1>${title}</h1>
    <p class="bad" role="alert">This page could not be loaded.</p>
    <button onClick=${fetchIt}>Try again</button>
  `;
}

function useFeedState() {
  const [state, setState] = useState(feedState());
  useLayoutEffect(() => onFeedState(setState), []);
  return state;
}

function FeedLamp() {
  const state = useFeedState();
  const words = { live: "Live", connecting: "Connecting", lost: "Not live", off: "Not live" };
  return html`<span class="lamp ${state}">${words[state]}</span>`;
}

const LOST = "The connection to the broker is lost. It is tried again; the page goes on when it is back.";
const OFF = "This broker has no feed, for [wamp] websocket_path is empty: pages show how things were when they were opened.";

// Said only when it takes longer than a moment, so that nothing flickers.
function FeedBanner() {
  const state = useFeedState();
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (state === "live") return setLate(false);
    const timer = setTimeout(() => setLate(true), 1_500);
    return () => clearTimeout(timer);
  }, [state === "live"]);
  return html`
    <div role="status" class="banner">
      ${late && html`<p class="warn">${state === "off" ? OFF : LOST}</p>`}
    </div>
  `;
}

// -- light and dark

function storedTheme() {
  try {
    const stored = localStorage.getItem(THEME);
    return THEMES.includes(stored) ? stored : "auto";
  } catch {
    return "auto"; // this browser keeps nothing
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  dispatchEvent(new Event("themechange"));
}

function ThemeSwitch() {
  const [theme, choose] = useState(storedTheme());
  const change = (event) => {
    const chosen = event.target.value;
    choose(chosen);
    setTheme(chosen);
    try {
      localStorage.setItem(THEME, chosen);
    } catch {
      // for this visit, then
    }
  };
  return html`
    <select class="theme" aria-label="Light or dark" value=${theme} onChange=${change}>
      ${THEMES.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>
  `;
}

setTheme(storedTheme());
render(html`<${App} />`, document.getElementById("app"));
