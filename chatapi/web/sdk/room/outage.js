/**
 * A time without a connection, and what the log brings after it.
 * @module
 */

export class Outage {
  /** The connection was lost at this time, and is not back. @type {number | null} */ #downSince = null;
  /** The events between `ready` and `sync.complete`. @type {{events: number, since: number} | null} */ #recovery = null;

  /** Whether what comes now was missed before. */
  get isRecovering() { return this.#recovery !== null; }

  /** The connection is lost, or still is. */
  lost() { this.#downSince ??= Date.now(); }

  /** It is back. */
  back() { if (this.#downSince !== null) this.#recovery = { events: 0, since: performance.now() }; }

  /** An event of the log has come. */
  count() { if (this.#recovery) this.#recovery.events++; }

  /** Everything has come. @returns {string} a sentence about it, empty when there was no outage */
  end() {
    if (!this.#recovery || this.#downSince === null) return "";
    const { events, since } = this.#recovery;
    const away = ((Date.now() - this.#downSince) / 1000).toFixed(1);
    const took = Math.max(1, Math.round(performance.now() - since));
    this.#recovery = null;
    this.#downSince = null;
    return `Back after ${away} s: ${events === 1 ? "1 event" : `${events} events`} recovered in ${took} ms`;
  }
}
