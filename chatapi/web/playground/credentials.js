/**
 * The key and the two users: from the server under `serve --dev`, from this tab, or from the form.
 * @module
 */

/** @typedef {{apiKey: string, a: string, b: string, dev?: boolean, agent?: string}} Credentials `agent`: a user who answers with streams */

/** Of this tab only, and gone with it. The REST page reads it too. */
const KEPT = "chatapi-playground";

/** A new database has a new developer's key, so that one is asked for each time. @returns {Promise<Credentials | null>} */
export async function findCredentials() {
  const kept = keptCredentials();
  return kept && !kept.dev ? kept : await developerCredentials() ?? kept;
}

/** @returns {Credentials | null} */
export function keptCredentials() {
  return JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
}

/** @param {Credentials} credentials */
export function keepCredentials(credentials) {
  sessionStorage.setItem(KEPT, JSON.stringify(credentials));
}

/** @returns {Promise<Credentials | null>} */
async function developerCredentials() {
  try {
    const { dev } = await (await fetch("/playground/config.json")).json();
    return dev && { apiKey: dev.api_key, a: dev.users[0], b: dev.users[1], dev: true, agent: dev.agent };
  } catch {
    return null;
  }
}

export class Setup {
  /** @param {HTMLDialogElement} dialog @param {{needed: () => boolean, given: (credentials: Credentials) => unknown}} how */
  constructor(dialog, { needed, given }) {
    this.dialog = dialog;
    this.needed = needed;
    this.form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    this.cancel = /** @type {HTMLElement} */ (this.form.querySelector("[data-cancel]"));
    this.cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("cancel", (event) => { if (needed()) event.preventDefault(); });
    this.form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { apiKey, a, b } = this.form;
      const credentials = { apiKey: apiKey.value.trim(), a: a.value.trim(), b: b.value.trim() };
      if (credentials.a === credentials.b) this.#complain("Two different users are needed.");
      else await given(credentials);
    });
  }

  /** @param {Credentials | null} credentials @param {string} [problem] */
  ask(credentials, problem) {
    const { apiKey, a, b } = this.form;
    apiKey.value = credentials?.apiKey ?? "";
    a.value = credentials?.a ?? "alice";
    b.value = credentials?.b ?? "bob";
    this.cancel.hidden = this.needed();
    this.#complain(problem);
    if (!this.dialog.open) this.dialog.showModal();
  }

  close() { this.dialog.close(); }

  /** @param {string} [problem] */
  #complain(problem) {
    const line = /** @type {HTMLElement} */ (this.form.querySelector(".form-error"));
    line.hidden = !problem;
    line.textContent = problem ?? "";
  }
}
