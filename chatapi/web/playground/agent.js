/**
 * The agent of `chatapi serve --dev`: a user who answers with streams, and the room in which the two users meet them.
 * @module
 */
import { h } from "/sdk/room/dom.js";
import { toast } from "./toast.js";
import { explainError } from "/sdk/room/reasons.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Room} Room */

const MARK = "playground_agent"; // in the metadata of their room

export class Agent {
  #busy = false;

  /** @param {string} userId @param {ChatAPI} client of the one user @param {string} other the other one @param {{find: () => Room[], open: (room: Room) => void}} rooms */
  constructor(userId, client, other, rooms) {
    this.userId = userId;
    this.client = client;
    this.other = other;
    this.rooms = rooms;
  }

  /** @param {Room | null} room */
  isOf(room) { return room?.metadata?.[MARK] === this.userId; }

  /** @param {string} tag @returns {HTMLElement} */
  button(tag) {
    return h(tag, { type: "button", title: "A user who says back what they are told, word by word, without a language model", onclick: () => this.#meet() },
      `Talk to ${this.userId}`);
  }

  /** Opens their room, which is made if need be. */
  async #meet() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      const known = this.rooms.find().find((room) => this.isOf(room));
      this.rooms.open(known ?? await this.client.createRoom({ type: "group", name: `Talk to ${this.userId}`, members: [this.other, this.userId], metadata: { [MARK]: this.userId } }));
    } catch (error) {
      toast(explainError(error));
    } finally {
      this.#busy = false;
    }
  }
}
