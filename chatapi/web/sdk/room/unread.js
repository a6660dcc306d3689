/**
 * How many messages of others a user has not read in the open room, and telling the server once they have.
 * @module
 */

/** @typedef {import("../chatapi.js").Message} Message */

const READ_DELAY_MS = 80; // many messages at once, as after a reconnect, are one receipt

export class Unread {
  #count = 0;
  /** The newest seq of the room that somebody else wrote. */ #newest = 0;
  /** Up to that seq everything is in the count; recovered events of before come all the same. */ #countedTo = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {(count: number) => void} show @param {(seq: number) => void} tell */
  constructor(show, tell) {
    this.show = show;
    this.tell = tell;
  }

  clear() {
    clearTimeout(this.#timer);
    this.#count = this.#newest = this.#countedTo = 0;
    this.show(0);
  }

  /**
   * The unread messages, as the newest page has them.
   * @param {{messages: Message[], has_more: boolean}} page @param {string} user @param {number} lastRead @param {number} listed as the list of rooms counts
   */
  start({ messages, has_more: hasMore }, user, lastRead, listed) {
    const others = messages.filter((message) => message.sender_id !== user && !message.deleted_at);
    this.#newest = others.at(-1)?.seq ?? 0;
    const unread = others.filter((message) => message.seq > lastRead).length;
    const beyond = hasMore && messages[0].seq > lastRead + 1; // the page is not all of it
    this.#count = beyond ? Math.max(unread, listed) : unread;
    this.#countedTo = messages.at(-1)?.seq ?? 0;
    this.show(this.#count);
  }

  /** Somebody else wrote this. @param {number} seq @param {boolean} counts */
  came(seq, counts) {
    this.#newest = Math.max(this.#newest, seq);
    if (counts && seq > this.#countedTo) this.show(++this.#count);
  }

  /** The user has read up to there, perhaps on another device. @param {number} seq @param {number} left of the messages on the page */
  readUpTo(seq, left) {
    if (seq >= this.#newest) left = 0;
    if (left < this.#count) this.show(this.#count = left);
  }

  /** The user has seen all of it. */
  markRead() {
    if (!this.#count) return;
    this.show(this.#count = 0);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { if (this.#newest) this.tell(this.#newest); }, READ_DELAY_MS);
  }
}
