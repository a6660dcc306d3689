/**
 * `<chatapi-room>`: a chat in any page, with no dependencies. docs/web-component.md says how to use it.
 *
 *     <script type="module" src="https://chat.example.com/sdk/room.js"></script>
 *     <chatapi-room room="room_…" token="…"></chatapi-room>
 *
 * The elements, names and classes inside it are not promised to stay: use the attributes, properties, events, variables and parts.
 * @module
 */
import { ChatAPI } from "./chatapi.js";
import { CONTROLS } from "./room/controls-style.js";
import { describe, h } from "./room/dom.js";
import { Wire } from "./room/link.js";
import { PANE } from "./room/pane-style.js";
import { Pane } from "./room/pane.js";
import { People } from "./room/people.js";
import { Toast } from "./room/toast.js";

/** @typedef {import("./chatapi.js").Connection} Connection */
/** @typedef {import("./room/surroundings.js").Surroundings} Surroundings */

const HERE = import.meta.url;
const TOKEN_MS = 9000; // for the page to give another token; the SDK waits for one a little longer
const FIRST_RETRY_MS = 2000;
const LONGEST_RETRY_MS = 30_000;
const IN_SIGHT = 0.5; // of the chat, for its messages to count as read

/** @type {CSSStyleSheet[] | undefined} */
let sheets;

/** Made once for all rooms of the page. A style sheet that a script makes needs no permission of a content security policy. */
function sharedSheets() {
  sheets ??= [CONTROLS, PANE].map((text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return sheet;
  });
  return sheets;
}

/** Where there are no elements, as on a server that renders pages, this module does nothing, but can be imported. */
const Base = /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? class {});

export class ChatAPIRoom extends Base {
  static observedAttributes = ["server", "room", "token"];

  /** @type {Pane | null} */ #pane = null;
  /** Ends what belongs to the pane. @type {(() => void)[]} */ #endings = [];
  /** @type {Connection | null} */ #connection = null;
  /** @type {(() => string | Promise<string>) | null} */ #getToken = null;
  /** The token that was handed out last. */ #given = "";
  /** Waits for a token that is not that one. @type {((token: string) => void) | null} */ #awaiting = null;
  /** Counts beginnings, so that what a slow answer brings for an earlier one is dropped. */ #beginning = 0;
  /** @type {Toast | null} */ #toast = null;
  /** Why the page gave no token. @type {unknown} */ #problem = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retry;
  #failures = 0;
  #inSight = false;
  #unread = 0;
  #planned = false;

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = sharedSheets();
  }

  /** The server's address; without the attribute, the one that this file came from. */
  get server() { return this.getAttribute("server") || new URL("..", HERE).href; }
  set server(url) { this.setAttribute("server", url); }

  /** The id of the room. */
  get room() { return this.getAttribute("room") ?? ""; }
  set room(roomId) { this.setAttribute("room", roomId); }

  /** A user token. */
  get token() { return this.getAttribute("token") ?? ""; }
  set token(token) { this.setAttribute("token", token); }

  /** Asked for a token at first, and again when the server refuses the last one. Without it, the attribute `token` counts. */
  get getToken() { return this.#getToken; }
  set getToken(source) {
    this.#getToken = source;
    this.#planAgain();
  }

  /** A connection that the page has already, and keeps: then neither `server` nor `token` counts. */
  get connection() { return this.#connection ?? this.#pane?.connection ?? null; }
  set connection(connection) {
    this.#connection = connection;
    this.#planAgain();
  }

  connectedCallback() {
    for (const name of ["getToken", "connection"]) this.#upgrade(name);
    if (!this.#pane) this.#plan();
  }

  /** An element that is moved within the page is back at once, and goes on. */
  disconnectedCallback() { queueMicrotask(() => { if (!this.isConnected) this.#end(); }); }

  /** @param {string} name @param {string | null} before @param {string | null} now */
  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === "room" && this.#pane && now) return void this.#pane.open({ room_id: now });
    if (name === "token" && now && this.#awaiting) return this.#awaiting(now);
    if (name === "token" && this.#pane && now && userOf(now) === this.#pane.user) return void (this.#pane.link.isUp || this.#pane.link.retryNow());
    this.#planAgain();
  }

  focus() { this.#pane?.composer.input.focus(); }

  /** Shows a pane that the page has made, as the playground does. @param {Pane} pane */
  mount(pane) {
    this.#end();
    this.#pane = pane;
    /** @type {ShadowRoot} */ (this.shadowRoot).replaceChildren(pane.element);
    this.#endings = [pane.around.people.follow(/** @type {ShadowRoot} */ (this.shadowRoot), () => pane.timeline.refreshNames())];
  }

  /** Properties that were set before this file was there. @param {string} name */
  #upgrade(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = /** @type {any} */ (this)[name];
    delete (/** @type {any} */ (this)[name]);
    /** @type {any} */ (this)[name] = value;
  }

  #planAgain() {
    this.#end();
    this.#plan();
  }

  /** One beginning for all that is set together. */
  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      if (this.isConnected && !this.#pane) void this.#begin();
    });
  }

  async #begin() {
    const beginning = ++this.#beginning;
    const page = this.#connection;
    if (!this.room || !(page || this.#getToken || this.token)) return this.#showHint();
    try {
      const wire = page ? null : new Wire();
      const client = page ? page.client : new ChatAPI({ url: this.server, getToken: () => this.#ask(), WebSocket: wire?.WebSocket });
      this.#given = "";
      const user = await client.findUserId();
      if (beginning !== this.#beginning || !this.isConnected) return;
      if (!user) throw this.#problem ?? new Error("the token names no user");
      this.#failures = 0;
      this.#start(new Pane(client, { wire, connection: page ?? undefined }, user, this.#surroundings(client)));
    } catch (error) {
      if (beginning === this.#beginning) this.#fail(error);
    }
  }

  /** @param {Pane} pane */
  #start(pane) {
    this.mount(pane);
    const toast = h("p.toast", { part: "toast", role: "status", hidden: true });
    pane.element.append(toast);
    this.#toast = new Toast(toast);
    this.#watchAttention(pane);
    void pane.open({ room_id: this.room });
  }

  #end() {
    this.#beginning++;
    clearTimeout(this.#retry);
    for (const end of this.#endings) end();
    this.#endings = [];
    this.#pane?.close();
    this.#pane = this.#toast = this.#awaiting = null;
  }

  /** Its messages are read while the chat is in sight, in a window that has the focus. @param {Pane} pane */
  #watchAttention(pane) {
    const look = () => pane.attend(this.#inSight && document.visibilityState === "visible" && document.hasFocus());
    const sight = new IntersectionObserver((seen) => {
      this.#inSight = /** @type {IntersectionObserverEntry} */ (seen.at(-1)).isIntersecting;
      look();
    }, { threshold: IN_SIGHT });
    sight.observe(this);
    for (const type of ["focus", "blur"]) addEventListener(type, look);
    document.addEventListener("visibilitychange", look);
    this.#endings.push(() => {
      sight.disconnect();
      for (const type of ["focus", "blur"]) removeEventListener(type, look);
      document.removeEventListener("visibilitychange", look);
    });
  }

  /** @returns {Promise<string>} */
  async #ask() {
    this.#problem = null;
    try {
      return await (this.#getToken ?? (() => this.#askAttribute()))();
    } catch (error) {
      this.#problem = error;
      throw error;
    }
  }

  /** The token of the attribute; once the server has refused that, the page is asked for another one. @returns {string | Promise<string>} */
  #askAttribute() {
    if (this.token !== this.#given) return (this.#given = this.token);
    const another = new Promise((/** @type {(token: string) => void} */ resolve, reject) => {
      const timer = setTimeout(() => { this.#awaiting = null; reject(new Error("the page has given no other token")); }, TOKEN_MS);
      this.#awaiting = (token) => {
        clearTimeout(timer);
        this.#awaiting = null;
        resolve(this.#given = token);
      };
    });
    this.#tell("chatapi-token", {});
    return another;
  }

  /** @param {ChatAPI} client @returns {Surroundings} */
  #surroundings(client) {
    const nothing = () => {};
    return {
      people: new People(client),
      words: { get host() { return new URL(client.url).host; }, credential: "token", user: "You are", whole: "this chat", missing: "This room is not there for you: it was deleted, or you are not in it." },
      isAtPlay: false, invite: null, details: null,
      frame: nothing, refused: nothing, readmitted: nothing,
      slotOf: () => undefined, standing: () => undefined, blockIn: () => null, isBanned: () => false, hint: () => null, snippets: () => [],
      nameOf: (room) => room.name ?? (room.type === "dm" ? "Direct message" : "Chat"),
      happened: (event) => { if (event.type === "message" && event.room_id === this.room) this.#tell("chatapi-message", event); },
      condition: (condition) => {
        this.#tell("chatapi-state", { state: condition.state, reason: condition.reason });
        if (condition.error) this.#tell("chatapi-error", condition.error);
      },
      opened: (opened) => "room" in opened ? this.#tell("chatapi-open", opened.room) : this.#tell("chatapi-error", opened.error),
      unread: (count) => {
        if (count !== this.#unread) this.#tell("chatapi-unread", { count });
        this.#unread = count;
      },
      reported: () => this.#toast?.show("Reported. Thank you."),
      say: (text) => this.#toast?.show(text),
      complain: (error) => {
        this.#toast?.show(describe(error));
        this.#tell("chatapi-error", error);
      },
    };
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true })); }

  #showHint() {
    this.#showLine(this.room ? "This chat needs a token." : "No room is open.");
  }

  /** There is no pane yet, as without a token. It is tried again. @param {any} error */
  #fail(error) {
    this.#showLine(`This chat cannot begin: ${describe(error)}.`, h("button.button", { type: "button", onclick: () => this.#planAgain() }, "Try again"));
    this.#tell("chatapi-error", error);
    this.#retry = setTimeout(() => this.#planAgain(), Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures++));
  }

  /** @param {string} text @param {...Node} more */
  #showLine(text, ...more) {
    /** @type {ShadowRoot} */ (this.shadowRoot).replaceChildren(h("section.pane.panel", { part: "panel", "aria-label": "Chat" }, h("p.empty", { role: "status" }, text, " ", ...more)));
  }
}

/** As a token says, unverified. @param {string} token */
function userOf(token) {
  try {
    return String(JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub);
  } catch {
    return "";
  }
}

if (globalThis.customElements && !customElements.get("chatapi-room")) customElements.define("chatapi-room", ChatAPIRoom);
