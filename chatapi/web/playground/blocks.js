/**
 * The users whom each of the two has blocked. No event tells of a block, so the lists are asked for again when there is a reason to.
 * @module
 */

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {"a" | "b"} Slot */

const PAGE = 100;
const MOST = 1000; // of them are read

export class Blocks {
  /** @type {Record<Slot, Set<string>>} */ #blocked = { a: new Set(), b: new Set() };
  #asked = 0;

  /** @param {Record<Slot, ChatAPI>} clients @param {Record<Slot, string>} users @param {() => void} changed */
  constructor(clients, users, changed) {
    this.clients = clients;
    this.users = users;
    this.changed = changed;
  }

  /** @param {Slot} slot @param {string} userId */
  has(slot, userId) { return this.#blocked[slot].has(userId); }

  /** Whether one of two users at play has blocked the other, as far as this page may know. @param {Slot} slot @param {string} otherId @returns {"own" | "other" | null} */
  between(slot, otherId) {
    if (this.has(slot, otherId)) return "own";
    const theirs = /** @type {const} */ (["a", "b"]).find((one) => this.users[one] === otherId);
    return theirs && this.has(theirs, this.users[slot]) ? "other" : null;
  }

  /** A list that cannot be had stays as it was: being offline or banned is shown already. */
  async refresh() {
    const asked = ++this.#asked;
    const lists = await Promise.all(/** @type {const} */ (["a", "b"]).map((slot) => this.#read(slot).catch(() => this.#blocked[slot])));
    if (asked !== this.#asked) return;
    this.#blocked = { a: lists[0], b: lists[1] };
    this.changed();
  }

  /** @param {Slot} slot @param {string} userId @param {boolean} blocked */
  async set(slot, userId, blocked) {
    if (blocked) await this.clients[slot].blockUser(userId);
    else await this.clients[slot].unblockUser(userId);
    await this.refresh();
  }

  /** @param {Slot} slot */
  async #read(slot) {
    const found = /** @type {Set<string>} */ (new Set());
    for (let cursor; found.size < MOST;) {
      const page = await this.clients[slot].listBlocks({ limit: PAGE, ...(cursor && { cursor }) });
      for (const { user_id: userId } of page.blocks) found.add(userId);
      cursor = page.next_cursor;
      if (!cursor) break;
    }
    return found;
  }
}
