// What the answers to calls mean, and how failures are told.

const SLOW = new Set([408, 409, 504]); // the ways of the API to say that no reply came in time

// The device answered, and what it answered says that it failed.
export class DeviceError extends Error {
  name = "DeviceError";
}

// The reply, if it has no `error` member. Raises DeviceError.
export function accepted(reply) {
  const error = typeof reply === "object" && reply !== null && !Array.isArray(reply) ? reply.error : undefined;
  if (error === undefined || error === null || error === false) return reply;
  throw new DeviceError(typeof error === "string" ? error : JSON.stringify(error));
}

// {text, hint} of an error, for people; `hint` may be null.
export function telling(error) {
  const hint = error.hint ?? null;
  if (error.name === "DeviceError") return { text: `The device says: ${error.message}`, hint };
  if (SLOW.has(error.status)) return { text: "Request timeout", hint };
  return { text: error.status ? `Error : ${error.status} - ${error.message}` : error.message, hint };
}

const failure = (status, message) => Object.assign(new Error(message), { status });

// What has become of a persistent call, as the API tells it: {reply}, {error}, or null if that is not known yet.
export function outcomeOf({ status, response, request }) {
  switch (status) {
    case "SUCCESSFUL":
      return { reply: response };
    case "DELIVERED":
      return request.oneway ? { reply: null } : null;
    case "TIMEOUT":
    case "EXPIRED":
      return { error: failure(504, "Request timeout") };
    case "FAILED":
      return { error: failure(502, String(response?.error ?? "The device could not be given the call")) };
    case "DELETED":
      return { error: failure(502, "The call was cancelled") };
    default: // QUEUED, SENT
      return null;
  }
}

// A line of the debug terminal: {method, params}; params are JSON if they can be read so, else text, undefined if there
// are none. null if the line is empty.
export function typed(line) {
  const [, method, rest] = /^\s*(\S*)\s*([^]*?)\s*$/.exec(line);
  if (!method) return null;
  return { method, params: rest === "" ? undefined : parsed(rest) };
}

// JSON if it is such, else the text as it is.
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
