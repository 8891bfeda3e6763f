// What the words mean that say why a call ended without a reply, and what to do about it.

import { html } from "../vendor/htm-preact.js";

const NEARLY = "The device's page says what it nearly got right.";

export const REASONS = {
  NO_SUBSCRIPTION: {
    why: "The device was connected, but had not subscribed to calls.",
    advice: `It must subscribe to v1/devices/me/rpc/request/+. ${NEARLY}`,
  },
  NEVER_CONNECTED: {
    why: "The device has never connected.",
    advice: "Check the device's access token, and the host and port to which it connects.",
  },
  DISCONNECTED: {
    why: "The device was not connected.",
    advice: "The device's page says when its connection ended, and why. A device that sleeps is called persistently, with a long timeout.",
  },
  NO_ACK: {
    why: "The device did not acknowledge it, however often it went out.",
    advice: "The connection is bad, or the device does not read.",
  },
  NO_REPLY: {
    why: "The device got it and did not reply in time.",
    advice: `It must reply, over MQTT on v1/devices/me/rpc/response/ and the call's number. ${NEARLY} If it is only slow, give the call a longer timeout.`,
  },
  EXPIRED: {
    why: "Its time was over before anything could be done.",
    advice: "Compare the caller's clock with the broker's, or leave expirationTime out.",
  },
  NO_HANDLER: {
    why: "Nothing in the broker was there to handle it.",
    advice: "Look at the method's name, letter by letter.",
  },
  NOT_FORWARDED: {
    why: "No rule chain gave it to the device.",
    advice: "A chain gives calls to devices by an 'rpc call request' node. Test a call in the root rule chain, and see where it ends.",
  },
  CANCELLED: {
    why: "It was cancelled.",
    advice: "A call with a requestUUID, or a persistent one, goes on when its caller leaves.",
  },
  QUEUE_FULL: {
    why: "Too many calls were waiting for the device.",
    advice: "See what waits: the calls to this device that are QUEUED.",
  },
  BAD_REPLY: {
    why: "The device replied with what is not JSON.",
    advice: "Its reply must be JSON, or empty.",
  },
  REFUSED: {
    why: "The device's side refused it.",
    advice: "The device, or what connects it, would not take it.",
  },
  TOO_LARGE: {
    why: "It is larger than the device takes at once.",
    advice: "Send less, or let the device announce a larger Maximum Packet Size.",
  },
  DEVICE_DELETED: {
    why: "The device was deleted.",
    advice: "Calls end with their device.",
  },
  SHUTTING_DOWN: {
    why: "The broker was stopped.",
    advice: "Ask again. A persistent call outlives the broker's stop.",
  },
  STORE_UNAVAILABLE: {
    why: "The broker's store could not keep it.",
    advice: "Is the disk full, or the database away? The broker's log says it. Calls that are not persistent need no store.",
  },
};

const KINDS = { SUCCESSFUL: "good", FAILED: "bad", EXPIRED: "bad", TIMEOUT: "warn", DELETED: "quiet" };

// The state of a call, in a colour; `deviceError`: the device answered with an error.
export function State({ state, deviceError = false }) {
  return html`<span class="call-state ${deviceError ? "warn" : (KINDS[state] ?? "")}">${state}${deviceError && " (error)"}</span>`;
}
