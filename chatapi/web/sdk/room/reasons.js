/**
 * Why there is no connection, in words that say what to do.
 * @module
 */
import { describe, moment } from "./dom.js";

/**
 * @typedef {object} Failure
 * @property {any} [error] of the SDK
 * @property {number} [closeCode] of the WebSocket that ended
 * @property {boolean} [handshakeFailed] it was never open
 * @property {boolean} [restAnswers] while the handshake failed, the server answered a REST call
 */

/**
 * @typedef {object} Words of the page around it
 * @property {string} host of the server
 * @property {string} credential what the page calls it
 * @property {string} user the subject of a sentence about a ban, as in "alice is"
 * @property {string} whole what a ban from every room is a ban from
 * @property {string} [missing] a room that is not there for the user; else it is told by their name
 */

const NO_TOKEN = "The page has no token that the server takes: the last one has expired or was revoked, and no other one came.";

/** @type {Record<number, string>} */
const CLOSED = {
  1001: "The server is going away: it stops or restarts.",
  1002: "The server ended the connection: a frame broke the WebSocket protocol (1002).",
  1003: "The server ended the connection: it takes text frames only (1003).",
  1007: "The server ended the connection: a frame was not UTF-8 (1007).",
  1008: "The server ended the connection for its policy (1008).",
  1009: "The server ended the connection: a frame was larger than 128 KiB (1009).",
  1011: "The server ended the connection after an error of its own (1011).",
  4001: "The server refused the credential: it expired or was revoked (4001).",
  4003: "This user is banned from the tenant (4003).",
  4009: "The server gave this connection up: it read too slowly (4009).",
  4029: "The server ended the connection: too many invalid frames in a minute (4029).",
};

/** Whether an error says that the user is banned, from a room or from the tenant. @param {any} error @returns {boolean} */
export function isBan(error) { return error?.status === 403 && Boolean(error.details) && "banned_until" in error.details; }

/** @param {string | null} until */
export function untilOf(until) { return until ? ` until ${moment(Date.parse(until))}` : ""; }

/** @param {Failure} failure @param {Words} words @returns {string} */
export function explain({ error, closeCode, handshakeFailed, restAnswers }, words) {
  if (navigator.onLine === false) return "This browser is offline.";
  if (error?.code === "NOT_CHATAPI" && !error.details?.http_status) return explainHandshake(); // nobody refuses it, and yet it fails
  if (isBan(error)) return `${words.user} banned from ${words.whole}${untilOf(error.details.banned_until)} (403).`;
  if (error?.status === 403) return `The server takes no connections from pages of ${location.origin}: add it to its server.allowed_origins (403).`;
  if (error) return explainError(error, words);
  if (handshakeFailed) return restAnswers ? explainHandshake() : `No answer from ${words.host}: the server is down, or something in between lets nothing through.`;
  return CLOSED[closeCode ?? 0] ?? `The connection broke off${closeCode && closeCode !== 1006 ? ` (${closeCode})` : ""}.`;
}

/** @param {any} error @param {{host: string, credential: string}} [words] */
export function explainError(error, { host, credential } = { host: location.host, credential: "key" }) {
  const { code, status } = error;
  if (code === "NOT_CHATAPI") {
    const status = error.details?.http_status;
    return `Something other than ChatAPI answered at ${host}${status ? ` (HTTP ${status})` : ""}: probably a proxy in front of it that does not reach it.`;
  }
  if (code === "NO_TOKEN") return NO_TOKEN;
  if (code === "TENANT_MOVED") return `The tenant has moved to another server: ${error.details?.url ?? "it is not said which"} (421).`;
  if (code === "TIMEOUT") return "The server did not answer in time.";
  if (code === "NETWORK_ERROR" || (status === 0 && code !== "CLOSED")) return `No answer from ${host}: the server is down, or something in between lets nothing through.`;
  if (status === 401) return `The server refused this ${credential} (401). Check that it is complete and not revoked.`;
  if (status === 403) return `The server refused it (403): ${describe(error)}.`;
  if (status === 429) return `A limit is reached (429): ${describe(error)}.`;
  if (status === 503) return `The server cannot serve this now (503): ${describe(error)}.`;
  return status ? `${describe(error)} (${status}).` : describe(error);
}

function explainHandshake() {
  return `The server answers, but no WebSocket comes about. Either a proxy in between passes no WebSockets on, or it passes another Host on `
    + `and ${location.origin} is not in server.allowed_origins, or there are as many connections as this user or tenant may have.`;
}

/** Whether an error says that a room is not there for this user. @param {any} error @returns {boolean} */
export function isOutside(error) { return error.status === 403 || error.status === 404; }

/** Why a room is not shown. @param {any} error @param {Words} words @param {boolean} isWhole a ban is not from this room alone */
export function explainRefusal(error, { user, whole, missing }, isWhole) {
  if (isBan(error)) return `${user} banned from ${isWhole ? whole : "this room"}${untilOf(error.details.banned_until)}.`;
  if (error.code === "NO_TOKEN") return NO_TOKEN;
  return isOutside(error) ? missing ?? `${user} not in this room.` : `Could not be loaded: ${describe(error)}`;
}
