/**
 * One user's connection: whether it is there and why not, trying again, the rooms that the user is in, acknowledgements,
 * and frames that are sent as they are.
 * @module
 */
import { isLogEvent } from "../chatapi.js";
import { explain, isBan } from "./reasons.js";

/** @typedef {import("../chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("../chatapi.js").ServerEvent} ServerEvent */
/** @typedef {import("../chatapi.js").StateChange} StateChange */
/** @typedef {{state: string, reason: string, retryAt: number | null, error?: any, transport?: import("../chatapi.js").Transport}} Condition */

/** @typedef {{wire?: Wire | null, connection?: import("../chatapi.js").Connection}} Ways `connection`: of the page's own, which stays as it is; without it there will be one */

/**
 * @typedef {object} Listener
 * @property {(direction: "in" | "out", frame: any) => void} frame every frame, as it passes
 * @property {(event: ServerEvent) => void} event in the order of the room's log, once each
 * @property {(condition: Condition) => void} condition
 * @property {(error: Error) => void} error
 * @property {() => void} rooms it is known now which rooms the user is in
 */

const ACK_MS = 100; // a burst of messages is one acknowledgement
const ACKS_BY_FRAME = 2; // one call for more rooms than that: the server takes 20 frames of them a second
const RAW_MS = 2000;
const KNOWN_MS = 2000; // for the connection to tell which rooms the user is in
const FOCUS_RETRY_MS = 1000; // so that looking back and forth does not make a handshake each time

/** The WebSockets of one connection, of which the page sees what the SDK keeps for itself. */
export class Wire {
  /** @type {WebSocket | null} */ socket = null;
  opened = false;

  constructor() {
    const wire = this;
    this.WebSocket = class extends WebSocket {
      /** @param {string} url @param {string[]} protocols */
      constructor(url, protocols) {
        super(url, protocols);
        wire.socket = this;
        wire.opened = false;
        this.addEventListener("open", () => { if (wire.socket === this) wire.opened = true; });
      }
    };
  }
}

export class Link {
  /** Room → what the user has read there; of this connection's `ready` and of what came since. @type {Map<string, number>} */ #rooms = new Map();
  #knowsAll = false;
  /** @type {Map<string, number>} */ #unacked = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #ackTimer;
  /** Between hanging up and dialling again at once. */ #redialling = false;
  #retriedAt = 0;
  /** Until then an error may be the answer to a raw frame, which is shown where that was sent. */ #rawUntil = 0;
  /** @type {Condition} */ condition = { state: "connecting", reason: "", retryAt: null };

  /** Undoes the listening to a connection of the page's own. @type {(() => void)[]} */ #undo = [];

  /** @param {ChatAPI} client @param {string} user @param {Ways} ways @param {import("./reasons.js").Words} words @param {Listener} listener */
  constructor(client, user, { wire = null, connection }, words, listener) {
    this.client = client;
    this.user = user;
    this.wire = wire;
    this.words = words;
    this.listener = listener;
    this.isOwn = !connection;
    this.look = () => { if (document.visibilityState === "visible") this.#retryOnFocus(); };
    for (const type of ["focus", "online"]) addEventListener(type, this.look);
    document.addEventListener("visibilitychange", this.look);
    this.connection = connection ?? this.#connect();
    if (connection) this.#listen(connection);
  }

  get isUp() { return this.condition.state === "live" || this.condition.state === "syncing"; }

  /** The ban from the tenant that ended the connection. @returns {{banned_until: string | null} | null} */
  get ban() { return this.condition.state === "closed" && isBan(this.condition.error) ? this.condition.error.details : null; }

  /** Whether the user is a member; undefined when this connection cannot say. @param {string} roomId @returns {boolean | undefined} */
  isMember(roomId) {
    if (this.#rooms.has(roomId)) return true;
    return this.#knowsAll && this.isUp ? false : undefined;
  }

  /** Up to where the user had read a room when the connection began. @param {string} roomId */
  lastRead(roomId) { return this.#rooms.get(roomId); }

  /** Waits a moment for the connection, which knows all of the user's rooms; then asks the server. @param {string} roomId @returns {Promise<boolean>} */
  async findMembership(roomId) {
    const end = Date.now() + KNOWN_MS;
    while (this.isOwn && !(this.#knowsAll && this.isUp) && Date.now() < end && this.condition.state !== "paused" && this.condition.state !== "closed") {
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    return this.isMember(roomId)
      ?? this.client.getPresence(roomId).then(() => true, (error) => { if (error.status === 403) return false; throw error; });
  }

  /** Tries at once, whatever the connection waits for. */
  retryNow() {
    const { state } = this.condition;
    if (state === "closed" && this.isOwn) return this.#replace();
    if (state !== "waiting" && state !== "connecting") return;
    if (!this.isOwn) return this.connection.resume();
    this.#redialling = true;
    this.connection.pause();
    this.#redialling = false;
    this.connection.resume();
  }

  /** Cuts the connection, or connects again. */
  toggle() {
    if (this.condition.state === "closed") this.#replace();
    else if (this.condition.state === "paused") this.connection.resume();
    else this.connection.pause();
  }

  /** A frame as it was typed. @param {string} text @returns {boolean} false when there is no connection */
  sendRaw(text) {
    if (!this.isUp || this.wire?.socket?.readyState !== WebSocket.OPEN) return false;
    this.#rawUntil = Date.now() + RAW_MS;
    this.wire.socket.send(text);
    return true;
  }

  close() {
    for (const type of ["focus", "online"]) removeEventListener(type, this.look);
    document.removeEventListener("visibilitychange", this.look);
    clearTimeout(this.#ackTimer);
    for (const undo of this.#undo) undo();
    if (this.isOwn) this.connection.close();
  }

  /** One that ended for good is followed by another, which begins where it stopped. */
  #replace() {
    this.connection = this.#connect(this.connection.cursors);
    this.#tell({ state: "connecting", reason: this.condition.reason, retryAt: null });
  }

  /** @param {import("../chatapi.js").Cursors} [cursors] */
  #connect(cursors) {
    // Notifications are acknowledged by hand here, so the connection leaves all of it to this page.
    const connection = this.client.connect({ autoAck: false, cursors });
    this.#listen(connection);
    return connection;
  }

  /** @param {import("../chatapi.js").Connection} connection */
  #listen(connection) {
    this.#undo = [
      connection.on("frame", ({ direction, frame }) => this.#onFrame(direction, frame)),
      connection.on("state", (change) => { if (connection === this.connection) void this.#onState(change); }),
      connection.on("error", (error) => {
        if (Date.now() > this.#rawUntil) setTimeout(() => { if (error !== this.condition.error) this.listener.error(error); }); // else it is shown as the reason
      }),
      connection.on("*", (event) => {
        this.listener.event(event);
        if (this.isOwn) this.#handled(event);
      }),
    ];
    if (!this.isOwn) queueMicrotask(() => void this.#onState({ state: connection.state, error: connection.error })); // its past was told to others
  }

  #retryOnFocus() {
    if (!["waiting", "closed"].includes(this.condition.state) || Date.now() - this.#retriedAt < FOCUS_RETRY_MS) return;
    this.#retriedAt = Date.now();
    this.retryNow();
  }

  /** @param {StateChange} change */
  async #onState({ state, delayMs, error, closeCode }) {
    if (state === "paused" && this.#redialling) return;
    const down = state === "waiting" || state === "closed";
    const failure = { error, closeCode, handshakeFailed: closeCode !== undefined && this.wire?.opened === false };
    const reason = down ? explain(failure, this.words) : state === "connecting" ? this.condition.reason : "";
    const condition = { state, reason, error, transport: this.connection.transport, retryAt: state === "waiting" ? Date.now() + (delayMs ?? 0) : null };
    this.#tell(condition);
    if (!down || error || !failure.handshakeFailed) return;
    const restAnswers = await this.client.health({ retries: 0 }).then(() => true, (/** @type {any} */ { status }) => status > 0);
    const better = explain({ ...failure, restAnswers }, this.words);
    if (this.condition === condition || this.condition.reason === reason) this.#tell({ ...this.condition, reason: better });
  }

  /** @param {Condition} condition */
  #tell(condition) {
    this.condition = condition;
    this.listener.condition(condition);
  }

  /** @param {"in" | "out"} direction @param {any} frame */
  #onFrame(direction, frame) {
    this.listener.frame(direction, frame);
    if (direction === "out") return;
    switch (frame.type) {
      case "ready":
        this.#rooms.clear();
        return this.#learn(frame);
      case "ready.rooms": return this.#learn(frame);
      case "room.created": return void this.#rooms.set(frame.room_id, 0);
      case "room.deleted": return void this.#rooms.delete(frame.room_id);
      case "member.joined": return void (frame.user_id === this.user && this.#rooms.set(frame.room_id, frame.seq));
      case "member.banned":
      case "member.left": return void (frame.user_id === this.user && this.#rooms.delete(frame.room_id));
      case "read.updated": return void (frame.user_id === this.user && this.#rooms.set(frame.room_id, frame.seq));
    }
  }

  /** A part of the list of the user's rooms, or all of it. @param {any} frame */
  #learn({ rooms, more }) {
    for (const { room_id: roomId, last_read: lastRead } of rooms) this.#rooms.set(roomId, lastRead ?? 0);
    this.#knowsAll = !more;
    if (!more) setTimeout(() => this.listener.rooms()); // after the SDK has taken it in
  }

  /** @param {ServerEvent} event */
  #handled(event) {
    if (!isLogEvent(event) || !this.#rooms.has(event.room_id)) return; // users who only follow have nothing to acknowledge
    this.#unacked.set(event.room_id, Math.max(event.seq, this.#unacked.get(event.room_id) ?? 0));
    this.#ackTimer ??= setTimeout(() => this.#ack(), ACK_MS);
  }

  /** Acknowledgements lost with a room or the connection: the events are streamed again, and acknowledged then. */
  #ack() {
    this.#ackTimer = undefined;
    const seqs = Object.fromEntries(this.#unacked);
    const acks = Object.entries(seqs).length > ACKS_BY_FRAME ? [this.client.ackRooms(seqs)]
      : Object.entries(seqs).map(([roomId, seq]) => this.connection.ack(roomId, seq));
    this.#unacked.clear();
    for (const ack of acks) ack.catch(() => {});
  }
}
