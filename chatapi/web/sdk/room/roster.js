/**
 * The members of a room as one of them knows them: the first ones, or all in a small room, whether they are online, and how far they have read.
 * @module
 */

/** @typedef {import("../chatapi.js").Member} Member */
/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").Receipt} Receipt */
/** @typedef {import("../chatapi.js").ServerEvent} ServerEvent */

export const RECEIPTS_UP_TO = 100; // members: the server tells nobody of receipts in larger rooms,
export const PRESENCE_UP_TO = 200; // nor of presence

export class Roster {
  /** @type {Map<string, Member>} */ #members = new Map();
  /** @type {Map<string, {ack: number, read: number}>} */ #receipts = new Map();
  /** @type {Set<string>} */ online = new Set();
  /** How many members there are, listed here or not. */
  count = 0;

  /** @param {string} user */
  constructor(user) { this.user = user; }

  clear() {
    this.#members.clear();
    this.#receipts.clear();
    this.online.clear();
    this.count = 0;
  }

  /** @param {{members: Member[], count: number, online: string[], receipts: Receipt[]}} found */
  fill({ members, count, online, receipts }) {
    this.count = count;
    for (const member of members) this.#members.set(member.user_id, member);
    for (const userId of online) this.online.add(userId);
    for (const receipt of receipts) this.#receipts.set(receipt.user_id, { ack: receipt.last_ack, read: receipt.last_read });
  }

  /** @param {string} userId */
  get(userId) { return this.#members.get(userId); }

  /** Of those that are listed. */
  get ids() { return [...this.#members.keys()]; }

  /** All that are listed but the user. */
  get others() { return [...this.#members.values()].filter((member) => member.user_id !== this.user); }

  /** Whether the server tells this room of who is online. */
  get hasPresence() { return this.count <= PRESENCE_UP_TO; }

  /** Takes in that a member came, left or changed, and says what there is to tell. @param {ServerEvent} event @returns {string} */
  apply({ type, user_id: userId, role, muted_until: mutedUntil }) {
    if (type === "member.left") {
      if (this.#members.delete(userId) || this.count > this.#members.size) this.count--;
      return "left";
    }
    if (type === "member.banned") {
      if (this.#members.delete(userId)) this.count--; // users who are not members can be banned too
      return "is banned";
    }
    if (type === "member.unbanned") return "is no longer banned";
    const known = this.#members.get(userId);
    const member = { user_id: userId, role, joined_at: known?.joined_at ?? new Date().toISOString(), ...(mutedUntil && { muted_until: mutedUntil }) };
    if (type === "member.joined") {
      if (!known) this.count++;
      if (known || this.count <= RECEIPTS_UP_TO) this.#members.set(userId, member);
      return "joined";
    }
    if (known || userId === this.user) this.#members.set(userId, member);
    if (known && known.role !== role) return `is now ${role}`;
    return mutedUntil ? "is muted" : known?.muted_until ? "is no longer muted" : `is now ${role}`;
  }

  /** @param {string} userId @param {number} ack @param {number} read */
  receive(userId, ack, read) {
    const known = this.#receipts.get(userId) ?? { ack: 0, read: 0 };
    this.#receipts.set(userId, { ack: Math.max(known.ack, ack), read: Math.max(known.read, read) });
  }

  /** Up to where somebody has read. @param {string} userId @returns {number | undefined} */
  lastRead(userId) { return this.#receipts.get(userId)?.read; }

  /** How far one's own message has come: with all the others, or only stored. @param {Message} message @returns {import("./message.js").Mark} */
  markOf(message) {
    if (this.count > RECEIPTS_UP_TO) return { kind: "stored", label: `Stored; a room of more than ${RECEIPTS_UP_TO} tells nobody who has read` };
    const others = this.others.map(({ user_id: userId }) => this.#receipts.get(userId));
    if (others.length && others.every((receipt) => (receipt?.read ?? 0) >= message.seq)) return { kind: "read", label: "Read" };
    if (others.length && others.every((receipt) => (receipt?.ack ?? 0) >= message.seq)) return { kind: "delivered", label: "Delivered" };
    return { kind: "stored", label: "Stored" };
  }
}
