/**
 * Which members of the open room are online, and when the others last were.
 * @module
 */
import { ago, h } from "/sdk/room/dom.js";
import { PRESENCE_UP_TO } from "/sdk/room/roster.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Room} Room */

export class LastSeen {
  /** @type {Set<string>} */ #online = new Set();
  /** In ms. @type {Map<string, number>} */ #seen = new Map();
  #opening = 0;
  /** Whether it is known who is online. */ #told = false;

  clear() {
    this.#opening++;
    this.#told = false;
    this.#online.clear();
    this.#seen.clear();
  }

  /** Of these members; the server tells nobody of presence in large rooms. @param {ChatAPI} client of a member @param {Room} room @param {string[]} userIds up to 100 @returns {Promise<boolean>} whether there is anything to show */
  async load(client, room, userIds) {
    if (room.member_count > PRESENCE_UP_TO || !userIds.length) return false;
    const opening = this.#opening;
    const answers = await Promise.all([client.getPresence(room.room_id), client.listUsers({ ids: userIds, limit: userIds.length })]).catch(() => null); // no member, or offline
    if (!answers || opening !== this.#opening) return false;
    const [{ online }, { users }] = answers;
    this.#told = true;
    this.#online = new Set(online);
    for (const { user_id: userId, last_seen_at: at } of users) if (at) this.#seen.set(userId, Date.parse(at));
    return true;
  }

  /** @param {string} userId @param {string} status */
  changed(userId, status) {
    if (status !== "offline") return void this.#online.add(userId);
    if (this.#online.delete(userId)) this.#seen.set(userId, Date.now());
  }

  /** @param {string} userId @returns {HTMLElement | null} */
  element(userId) {
    if (!this.#told) return null;
    if (this.#online.has(userId)) return h("small.presence", { "data-online": "true" }, "online");
    const at = this.#seen.get(userId);
    return h("small.presence", { "data-online": "false", title: at ? new Date(at).toISOString() : null }, at ? `last seen ${ago(at)}` : "offline");
  }
}
