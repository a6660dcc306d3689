/**
 * Faults that the server makes on command, under `serve --dev` and `--test`, so that one sees the two connections recover.
 * @module
 */
import { h, iconButton } from "/sdk/room/dom.js";

/** @typedef {{status: number, rate: number, html: boolean}} ErrorFault */
/** @typedef {{cut_every_seconds: number | null, delay_ms: number, error: ErrorFault | null, lose_confirmations: number, stall_seconds: number, user_id: string | null, dropped: number}} FaultsNow what is on, as `GET /dev/faults` tells it */
/** @typedef {{label: string, fields: HTMLElement[], button?: string, make: () => Record<string, unknown>}} Kind a fault that can be started */

const MASTER_KEY = "chatapi-playground-master-key"; // of this tab only, and gone with it
const LOOK_MS = 1000; // while something is on: some faults end by themselves
const NONE = { cut_every_seconds: null, delay_ms: 0, error: null, lose_confirmations: 0, stall_seconds: 0 };
/** @type {[string, string][]} */
const ERRORS = [["429", "429"], ["503", "503"], ["500", "500"], ["502 html", "502 page"], ["404 html", "404 page"]];

/** Whether this server can make faults. */
export async function canMakeFaults() {
  try {
    return (await (await fetch("/playground/config.json")).json()).dev !== null;
  } catch {
    return false;
  }
}

export class Faults {
  /** @type {FaultsNow | null} */ #on = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #shown = false;

  /** @param {HTMLElement} root @param {HTMLElement} log of what the connections do @param {(count: number) => void} counted told how many faults are on */
  constructor(root, log, counted) {
    this.counted = counted;
    this.key = h("input", { type: "password", "aria-label": "Master key", placeholder: "mk_…", autocomplete: "off", spellcheck: "false", required: true });
    this.keyForm = h("form.fault-key", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); this.#takeKey(); } },
      h("p.muted", {}, "The server printed the master key when it started. It stays in this tab and is forgotten with it."),
      h("div.raw-row", {}, this.key, h("button.button.small.primary", { type: "submit" }, "Use")));
    this.user = h("select", { "aria-label": "Whom the faults strike", onchange: () => this.#set({}) }, h("option", { value: "" }, "everybody"));
    this.outcome = h("p.outcome", { role: "status", hidden: true });
    this.list = h("ul.fault-list", { "aria-label": "Faults that are on" });
    this.endAll = h("button.button.small.primary", { type: "button", onclick: () => this.#endAll() }, "End all faults");
    this.controls = h("div.fault-controls", {},
      h("div.fault-now", {}, this.list, this.endAll),
      h("label.fault-user", {}, "They strike", this.user),
      ...this.#listKinds().map((kind) => this.#row(kind)));
    root.replaceChildren(h("div.side-scroll", { tabindex: 0, role: "region", "aria-label": "Faults" },
      h("h2", {}, "Faults"), this.keyForm, this.controls, this.outcome), log);
    this.#showKey();
  }

  /** @param {Record<"a" | "b", string>} users */
  setUsers(users) {
    const chosen = this.user.value;
    this.user.replaceChildren(h("option", { value: "" }, "everybody"), ...Object.values(users).map((user) => h("option", { value: user }, user)));
    this.user.value = Object.values(users).includes(chosen) ? chosen : "";
  }

  /** @param {boolean} shown */
  show(shown) {
    this.#shown = shown;
    if (shown && this.#masterKey) void this.#look();
  }

  get #masterKey() { return sessionStorage.getItem(MASTER_KEY) ?? ""; }

  /** @returns {Kind[]} */
  #listKinds() {
    const every = number("Seconds between two cuts", 5, 0.1, 3600, 0.1);
    const delay = number("Milliseconds of delay", 500, 1, 60_000);
    const answer = h("select", { "aria-label": "The answer" }, ...ERRORS.map(([value, text]) => h("option", { value }, text)));
    const rate = number("Percent of the requests", 50, 1, 100);
    const lost = number("How many confirmations", 1, 1, 100_000);
    const stall = number("Seconds of silence", 10, 0.1, 600, 0.1);
    return [
      { label: "Cut all connections", fields: [], button: "Cut now", make: () => ({ drop: true }) },
      { label: "Cut them every", fields: [every, unit("s")], make: () => ({ cut_every_seconds: every.valueAsNumber }) },
      { label: "Delay answers by", fields: [delay, unit("ms")], make: () => ({ delay_ms: delay.valueAsNumber }) },
      { label: "Answer", fields: [rate, unit("% with"), answer], make: () => ({ error: { status: parseInt(answer.value, 10), rate: rate.valueAsNumber / 100, html: answer.value.endsWith("html") } }) },
      { label: "Lose the next", fields: [lost, unit("confirmations")], make: () => ({ lose_confirmations: lost.valueAsNumber }) },
      { label: "Stall the network for", fields: [stall, unit("s")], make: () => ({ stall_seconds: stall.valueAsNumber }) },
    ];
  }

  /** @param {Kind} kind */
  #row({ label, fields, button = "Start", make }) {
    return h("form.fault", { "aria-label": label, onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); void this.#set(make()); } },
      h("span.fault-label", {}, label), ...fields, h("button.button.small", { type: "submit", "aria-label": `${button}: ${label}` }, button));
  }

  /** Adds this fault to those that are on, which the server replaces as a whole. @param {Record<string, unknown>} fault */
  async #set(fault) {
    await this.#try(async () => {
      const { dropped: _dropped, ...on } = await this.#call("GET");
      this.#take(await this.#call("POST", { ...on, user_id: this.user.value || null, ...fault }));
      if (fault.drop) return this.#on?.dropped === 1 ? "1 connection was cut." : `${this.#on?.dropped} connections were cut.`;
      return "";
    });
  }

  async #endAll() {
    await this.#try(async () => {
      this.#take(await this.#call("POST", {}));
      return "All faults have ended.";
    });
  }

  async #look() {
    clearTimeout(this.#timer);
    await this.#try(async () => { this.#take(await this.#call("GET")); return null; });
  }

  /** @param {FaultsNow} on */
  #take(on) {
    this.#on = on;
    const faults = describe(on);
    this.counted(faults.length);
    const focused = this.list.contains(document.activeElement);
    const texts = faults.map(([, text]) => text);
    if (this.list.dataset.shown !== texts.join("\n")) this.#draw(faults);
    if (focused && !this.list.contains(document.activeElement)) this.endAll.focus();
    clearTimeout(this.#timer);
    if (faults.length && this.#shown) this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  /** @param {[string, string][]} faults */
  #draw(faults) {
    this.list.dataset.shown = faults.map(([, text]) => text).join("\n");
    this.list.replaceChildren(...faults.map(([name, text]) => h("li.fault-on", {}, h("span", {}, text),
      iconButton("close", `End: ${text}`, () => this.#set({ [name]: NONE[/** @type {keyof typeof NONE} */ (name)] })))));
    if (!faults.length) this.list.append(h("li.muted", {}, "No faults are on."));
    const [first] = faults.length && this.#on?.user_id ? [`Only for ${this.#on.user_id}.`] : [];
    if (first) this.list.append(h("li.muted", {}, first));
    this.endAll.disabled = !faults.length;
  }

  /** @param {"GET" | "POST"} method @param {Record<string, unknown>} [body] @returns {Promise<FaultsNow>} */
  async #call(method, body) {
    const headers = { "X-Master-Key": this.#masterKey, "Content-Type": "application/json" };
    const response = await fetch("/dev/faults", { method, headers, ...(body && { body: JSON.stringify(body) }) });
    const { data, error } = await response.json();
    if (!error) return data;
    if (response.status === 401) this.#forgetKey();
    throw new Error(error.field ? `${error.field}: ${error.message}` : error.message);
  }

  #takeKey() {
    sessionStorage.setItem(MASTER_KEY, this.key.value.trim());
    this.key.value = "";
    this.#showKey();
    void this.#try(async () => { this.#take(await this.#call("GET")); return ""; });
  }

  #forgetKey() {
    sessionStorage.removeItem(MASTER_KEY);
    this.#showKey();
    this.key.focus();
  }

  #showKey() {
    const known = this.#masterKey !== "";
    this.keyForm.hidden = known;
    this.controls.hidden = !known;
  }

  /** @param {() => Promise<string | null>} change which says what happened; null says nothing new */
  async #try(change) {
    let text, failed = false;
    try {
      text = await change();
    } catch (error) {
      [text, failed] = [/** @type {Error} */ (error).message, true];
    }
    if (text === null) return;
    this.outcome.hidden = !text;
    this.outcome.dataset.failed = String(failed);
    this.outcome.textContent = text;
  }
}

/** By the name of its field: each fault that is on, in words. @param {FaultsNow} on @returns {[string, string][]} */
function describe(on) {
  /** @type {[string, string][]} */
  const all = [
    ["cut_every_seconds", on.cut_every_seconds ? `Connections are cut every ${on.cut_every_seconds} s` : ""],
    ["delay_ms", on.delay_ms ? `Answers come ${on.delay_ms} ms late` : ""],
    ["error", on.error ? `${Math.round(on.error.rate * 100)} % of the requests get ${on.error.html ? `a ${on.error.status} page` : on.error.status}` : ""],
    ["lose_confirmations", on.lose_confirmations ? `The next ${on.lose_confirmations === 1 ? "confirmation is" : `${on.lose_confirmations} confirmations are`} lost` : ""],
    ["stall_seconds", on.stall_seconds ? `The network stands still for ${Math.ceil(on.stall_seconds)} s more` : ""],
  ];
  return all.filter(([, text]) => text);
}

/** @param {string} label @param {number} value @param {number} min @param {number} max @param {number} [step] */
function number(label, value, min, max, step = 1) {
  return h("input.fault-number", { type: "number", "aria-label": label, value, min, max, step, required: true });
}

/** @param {string} text */
function unit(text) { return h("span.fault-unit", {}, text); }
