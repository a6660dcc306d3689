/**
 * The server itself: its version and whether it is well, in the page's head.
 * @module
 */
import { h } from "/sdk/room/dom.js";
import { explainError } from "/sdk/room/reasons.js";

const EVERY_MS = 30_000;
const AGAIN_MS = 1000; // at most this often, whatever the connections do

export class ServerHealth {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #askedAt = 0;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.version = h("span.server-version");
    this.state = h("span.server-state", {}, "…");
    this.pill = h("span.server", { "data-health": "unknown" }, this.version, this.state);
    root.append(this.pill);
    document.addEventListener("visibilitychange", () => this.askSoon());
    void this.#ask();
  }

  /** Something happened that may have to do with the server. */
  askSoon() {
    if (document.visibilityState !== "visible") return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), Math.max(0, this.#askedAt + AGAIN_MS - Date.now()));
  }

  async #ask() {
    this.#askedAt = Date.now();
    clearTimeout(this.#timer);
    const { status, envelope } = await ask();
    const health = envelope?.data ?? envelope?.error?.details;
    if (health?.version) {
      const { version, uptime, db_writable: writable } = health;
      this.version.textContent = version;
      this.#show(writable ? "well" : "ill", writable ? "healthy" : "read-only", `ChatAPI ${version}, up for ${uptime}; its database ${writable ? "can" : "cannot"} be written`);
    } else if (envelope) this.#show("ill", "not well", envelope.error?.message ?? `HTTP ${status}`);
    else this.#show("away", "no answer", explainError(status ? { code: "NOT_CHATAPI", details: { http_status: status } } : { code: "NETWORK_ERROR", status }));
    if (document.visibilityState === "visible") this.#timer = setTimeout(() => this.#ask(), EVERY_MS);
  }

  /** @param {string} health @param {string} text @param {string} title */
  #show(health, text, title) {
    this.pill.dataset.health = health;
    this.pill.title = title;
    this.state.textContent = text;
  }
}

/** Open to everybody: no key is sent. @returns {Promise<{status: number, envelope: any}>} */
async function ask() {
  try {
    const response = await fetch("/v1/health", { cache: "no-store" });
    const envelope = await response.json().catch(() => null);
    return { status: response.status, envelope: typeof envelope?.success === "boolean" ? envelope : null };
  } catch {
    return { status: 0, envelope: null };
  }
}
