/**
 * A box for one frame, sent as it is typed, and its answer.
 * @module
 */
import { h } from "/sdk/room/dom.js";
import { tree } from "./tree.js";

/** @typedef {{room_id?: string, seq?: number, message_id?: string, open?: import("/sdk/chatapi.js").Message}} Present what the open room has to fill in; `open` is being written */
/** @typedef {{slot: "a" | "b", id: string | null, timer: ReturnType<typeof setTimeout>}} Waiting */

const ANSWER_MS = 5000;

/** @type {Record<string, (present: Present) => unknown>} */
const SAMPLES = {
  "ping": () => ({ type: "ping" }),
  "send_message": ({ room_id }) => ({ type: "send_message", room_id, content: "Hello from a raw frame" }),
  "send_message, a stream": ({ room_id }) => ({ type: "send_message", room_id, content: "", stream: true }),
  "message.append": ({ room_id, open }) => ({ type: "message.append", room_id, message_id: open?.message_id, index: (open?.stream?.index ?? 0) + 1, text: "A few more words. " }),
  "message.finish": ({ room_id, open }) => ({ type: "message.finish", room_id, message_id: open?.message_id, state: "done" }),
  "message.cancel": ({ room_id, open }) => ({ type: "message.cancel", room_id, message_id: open?.message_id }),
  "message.edit": ({ room_id, message_id }) => ({ type: "message.edit", room_id, message_id, content: "Edited by a raw frame" }),
  "message.delete": ({ room_id, message_id }) => ({ type: "message.delete", room_id, message_id }),
  "reaction.add": ({ room_id, message_id }) => ({ type: "reaction.add", room_id, message_id, emoji: "👍" }),
  "reaction.remove": ({ room_id, message_id }) => ({ type: "reaction.remove", room_id, message_id, emoji: "👍" }),
  "read": ({ room_id, seq }) => ({ type: "read", room_id, seq }),
  "ack": ({ room_id, seq }) => ({ type: "ack", room_id, seq }),
  "typing.start": ({ room_id }) => ({ type: "typing.start", room_id }),
  "subscribe": ({ room_id }) => ({ type: "subscribe", room_id }),
  "unsubscribe": ({ room_id }) => ({ type: "unsubscribe", room_id }),
  "sync": ({ room_id }) => ({ type: "sync", rooms: { [room_id ?? ""]: 0 } }),
};

export class RawFrame {
  /** @type {Waiting | null} */ #waiting = null;
  #number = 0;

  /** @param {HTMLElement} root @param {{send: (slot: "a" | "b", text: string) => boolean, present: () => Present, sent: (slot: "a" | "b", frame: any) => void}} given */
  constructor(root, given) {
    this.given = given;
    this.user = h("select", { "aria-label": "Send as" });
    this.sample = h("select", { "aria-label": "Start from", onchange: () => this.#fill() },
      ...Object.keys(SAMPLES).map((type) => h("option", { value: type }, type)));
    this.input = h("textarea.raw-input", { rows: 4, spellcheck: "false", "aria-label": "The frame, as JSON", dir: "ltr",
      onkeydown: (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#send(); } });
    this.answer = h("div.raw-answer", { role: "status", hidden: true });
    root.append(h("details.raw", { ontoggle: () => { if (!this.input.value) this.#fill(); } },
      h("summary", {}, "Send a raw frame"),
      h("form.raw-form", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); this.#send(); } },
        h("div.raw-row", {}, this.user, this.sample, h("span.grow"), h("button.button.small.primary", { type: "submit" }, "Send frame")),
        this.input, this.answer)));
  }

  /** @param {Record<"a" | "b", string>} users */
  setUsers(users) {
    this.user.replaceChildren(...Object.entries(users).map(([slot, user]) => h("option", { value: slot }, user)));
  }

  /** A frame came in. @param {"a" | "b"} slot @param {any} frame */
  heard(slot, frame) {
    const waiting = this.#waiting;
    if (!waiting || waiting.slot !== slot) return;
    const answers = waiting.id === null ? frame.type === "error" && frame.request_id === undefined : frame.request_id === waiting.id;
    if (!answers) return;
    clearTimeout(waiting.timer);
    if (this.answer.firstElementChild?.tagName !== "P") this.answer.append(tree(frame)); // an ack of many rooms has many answers
    else this.#show(tree(frame), frame.type === "error");
  }

  #fill() {
    this.input.value = JSON.stringify(SAMPLES[this.sample.value](this.given.present()), null, 2);
  }

  #send() {
    const slot = this.user.value;
    const { text, frame, id } = this.#prepare(this.input.value);
    clearTimeout(this.#waiting?.timer);
    this.#waiting = null;
    if (!this.given.send(slot, text)) return this.#show(h("p", {}, "Not sent: this user has no WebSocket now."), true);
    this.given.sent(slot, frame);
    this.#show(h("p.muted", {}, "Sent. Waiting for its answer …"), false);
    const timer = setTimeout(() => this.#show(h("p.muted", {}, "Sent, and not answered within 5 s: typing and notification.ack have no answer."), false), ANSWER_MS);
    this.#waiting = { slot, id, timer };
  }

  /** As it is typed, but an object gets a `request_id`, by which its answer is known. @param {string} text */
  #prepare(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return { text, frame: text, id: null };
    }
    if (frame === null || typeof frame !== "object" || Array.isArray(frame)) return { text, frame, id: null };
    const given = frame.request_id ?? frame.data?.request_id;
    if (given !== undefined) return { text, frame, id: typeof given === "string" ? given : null };
    const id = `raw-${++this.#number}`;
    // Into the text, not into what was parsed: doubled keys, long numbers and the like travel as they were typed.
    const at = text.lastIndexOf("}");
    const comma = Object.keys(frame).length ? ", " : "";
    return { text: `${text.slice(0, at).trimEnd()}${comma}"request_id": "${id}"${text.slice(at)}`, frame: { ...frame, request_id: id }, id };
  }

  /** @param {HTMLElement} content @param {boolean} failed */
  #show(content, failed) {
    this.answer.hidden = false;
    this.answer.dataset.failed = String(failed);
    this.answer.replaceChildren(content);
  }
}
