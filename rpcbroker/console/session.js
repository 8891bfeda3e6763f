// Who is signed in, and requests in that name. The tokens live in this module's memory and nowhere else: a reload of
// the page signs out.

const EARLY_MS = 60_000; // before its end a token is replaced
const LONGEST_TIMER = 2 ** 31 - 1; // ms; browsers take what is longer for none

let token = null;
let refreshToken = null;
let renewAt = 0; // by performance.now(), for the clocks of browsers are often wrong
let renewal = null; // the promise of the next pair, while it is asked for
let timer = null;
const listeners = new Set();

// `user` is the API's User. `ended` is a sentence that says why the last session is over, if the user did not end it.
export const session = { user: null, signedIn: false, ended: null };

// What a request, or a call, was answered with if that is no success. `status` is that of HTTP, 0 if there was no
// answer; `reason` is a word for programs, `hint` says what to do about it; null where there is none.
export class ApiError extends Error {
  constructor({ status = 0, message, hint = null, reason = null, rpcId = null, errorCode = null }) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { status, hint, reason, rpcId, errorCode });
  }
}

// Calls `listener(session)` whenever somebody signs in or out, and when the token changes. Returns what ends that.
export function onSession(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function signIn(email, password) {
  take(await exchange("POST", "/api/auth/login", { body: { username: email, password } }));
  try {
    session.user = await exchange("GET", "/api/auth/user", { as: token });
  } catch (error) {
    forget(null);
    throw error;
  }
  Object.assign(session, { signedIn: true, ended: null });
  tell();
}

// Revokes the session; the page forgets it even if the broker cannot be told.
export async function signOut() {
  const mine = token;
  forget(null);
  try {
    await exchange("POST", "/api/auth/logout", { as: mine });
  } catch {
    // it ends by itself
  }
}

// The token of now: good for a while yet. Raises ApiError when the session is over, or nobody answers.
export async function ticket() {
  if (token === null || performance.now() >= renewAt) await renew();
  return token;
}

// A new pair of tokens, for the server says that this one is not good any more, or soon will not be.
export function renew() {
  renewal ??= (async () => {
    const shown = refreshToken;
    if (shown === null) throw new ApiError({ status: 401, message: "Nobody is signed in" });
    try {
      const pair = await exchange("POST", "/api/auth/token", { body: { refreshToken: shown } });
      if (shown !== refreshToken) throw new ApiError({ status: 401, message: "Signed out" });
      take(pair);
      tell();
    } catch (error) {
      if (error.status === 401 && shown === refreshToken) forget("Your session has ended. Sign in again.");
      throw error;
    }
  })().finally(() => {
    renewal = null;
  });
  return renewal;
}

// One request of the API in the user's name; what comes back is its JSON (text, if it is none), null if it is empty.
// Raises ApiError; DOMException AbortError when `signal` says so.
export async function request(method, path, options = {}) {
  const { user } = session;
  const shown = await ticket();
  try {
    return await exchange(method, path, { ...options, as: shown });
  } catch (error) {
    if (error.status !== 401 || user !== session.user) throw error; // what one has asked, another does not ask again
    if (shown === token) await renew();
    return exchange(method, path, { ...options, as: token });
  }
}

async function exchange(method, path, { query, body, signal, as } = {}) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const url = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  const headers = { Accept: "application/json" };
  if (as) headers["X-Authorization"] = `Bearer ${as}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(url, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ message: "The broker does not answer", hint: "It is tried again when it does." });
  }
  const answer = parsed(text);
  if (response.ok) return answer;
  throw new ApiError({
    message: `The broker answered with status ${response.status}`,
    rpcId: response.headers.get("X-RPC-Id"),
    ...(typeof answer === "object" && answer),
    status: response.status,
  });
}

function parsed(text) {
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function take(pair) {
  ({ token, refreshToken } = pair);
  const { exp, iat } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  const lasts = (exp - iat) * 1000;
  const wait = Math.max(lasts / 2, lasts - EARLY_MS);
  renewAt = performance.now() + wait;
  clearTimeout(timer);
  timer = setTimeout(() => renew().catch(() => {}), Math.min(wait, LONGEST_TIMER));
}

function forget(ended) {
  clearTimeout(timer);
  token = refreshToken = null;
  Object.assign(session, { user: null, signedIn: false, ended });
  tell();
}

function tell() {
  for (const listener of listeners) listener(session);
}
