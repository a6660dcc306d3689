/**
 * Users who are typing: until they stop, or nothing has been heard of them for a while.
 * @module
 */

const LONGEST_MS = 8000; // a lost stop must not stay

export class Typists {
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */ #timers = new Map();

  /** @param {(userIds: string[]) => void} changed */
  constructor(changed) { this.changed = changed; }

  /** @param {string} userId */
  start(userId) {
    clearTimeout(this.#timers.get(userId));
    this.#timers.set(userId, setTimeout(() => this.stop(userId), LONGEST_MS));
    this.changed([...this.#timers.keys()]);
  }

  /** @param {string} userId */
  stop(userId) {
    clearTimeout(this.#timers.get(userId));
    if (this.#timers.delete(userId)) this.changed([...this.#timers.keys()]);
  }

  clear() { for (const userId of [...this.#timers.keys()]) this.stop(userId); }
}
