/**
 * Bans from the whole tenant, of users of whom this page has learned it: the server has no list of them.
 * @module
 */
import { describe, h, iconButton, moment } from "/sdk/room/dom.js";
import { people } from "./people.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").UserBan} UserBan */

/** @type {[string, number][]} */
const LENGTHS = [["for good", 0], ["for 1 minute", 60], ["for 1 hour", 3600], ["for 1 day", 86_400]];

export class TenantBans {
  /** Those that are known. @type {Map<string, UserBan>} */ #bans = new Map();

  /** @param {ChatAPI} client of the tenant @param {(userId: string) => void} changed told whose ban came or went */
  constructor(client, changed) {
    this.client = client;
    this.changed = changed;
    this.userId = h("input", { "aria-label": "User id", placeholder: "user id", autocomplete: "off", spellcheck: "false", required: true, maxlength: 128, pattern: "[!-~]+", title: "printable ASCII without spaces" });
    this.length = h("select", { "aria-label": "How long" }, ...LENGTHS.map(([text, seconds]) => h("option", { value: seconds }, text)));
    this.reason = h("input", { "aria-label": "Reason", placeholder: "reason, if you like", maxlength: 500, dir: "auto" });
    this.outcome = h("p.outcome", { role: "status", hidden: true });
    this.list = h("ul.member-list", { "aria-label": "Users who are banned from the tenant" });
    this.element = h("section", { "aria-label": "Bans from the tenant" }, h("h2", { tabindex: -1 }, "Bans from the tenant"),
      h("form.ban-form", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); void this.#submit(); } },
        h("div.raw-row", {}, this.userId, this.length), h("div.raw-row", {}, this.reason,
          h("button.button.small", { type: "button", onclick: () => this.#lookUp() }, "Look up"), h("button.button.small.primary", { type: "submit" }, "Ban"))),
      this.outcome, this.list);
  }

  /** @param {string} userId */
  isBanned(userId) { return this.#bans.has(userId); }

  /** Which of the known ones are still in force. @param {string[]} [more] of users who were refused as banned */
  async refresh(more = []) {
    const known = new Set([...more, ...this.#bans.keys()]);
    await Promise.all([...known].map((userId) => this.#read(userId).catch(() => null))); // being offline is shown already
    this.#render();
  }

  /** @param {string} userId @param {number} seconds 0: for good @param {string} [reason] */
  async ban(userId, seconds, reason = "") {
    this.#bans.set(userId, await this.client.banUser(userId, { ...(reason && { reason }), ...(seconds && { expires_in: seconds }) }));
    this.#render();
    this.changed(userId);
  }

  /** @param {string} userId */
  async lift(userId) {
    await this.client.unbanUser(userId);
    this.#bans.delete(userId);
    this.#render();
    this.changed(userId);
  }

  /** @param {string} userId @returns {Promise<UserBan | null>} */
  async #read(userId) {
    const before = this.isBanned(userId);
    const ban = await this.client.getBan(userId).catch((error) => { if (error.status === 404) return null; throw error; });
    if (ban) this.#bans.set(userId, ban);
    else this.#bans.delete(userId);
    if (this.isBanned(userId) !== before) this.changed(userId);
    return ban;
  }

  #submit() {
    const userId = this.userId.value.trim();
    return this.#try(async () => {
      await this.ban(userId, Number(this.length.value), this.reason.value.trim());
      this.userId.value = this.reason.value = "";
      return `${userId} is banned from the tenant.`;
    });
  }

  #lookUp() {
    const userId = this.userId.value.trim();
    if (!this.userId.reportValidity()) return;
    void this.#try(async () => {
      const ban = await this.#read(userId);
      this.#render();
      return ban ? `${userId} is banned from the tenant.` : `${userId} is not banned.`;
    });
  }

  #render() {
    this.list.replaceChildren(...[...this.#bans.values()].map((ban) => this.#row(ban)));
    if (!this.#bans.size) this.list.append(h("li.muted", {}, "None that is known here."));
  }

  /** @param {UserBan} ban */
  #row({ user_id: userId, reason, banned_until: until }) {
    const end = until ? `until ${moment(Date.parse(until))}` : "for good";
    return h("li.member", { "data-user": userId }, people.avatar(userId), h("span.member-name", {}, people.nameElement(userId), h("small", { dir: "auto" }, reason ? `${end}: ${reason}` : end)),
      iconButton("close", `Lift the ban of ${userId} from the tenant`, () => this.#try(async () => {
        await this.lift(userId);
        /** @type {HTMLElement} */ (this.element.querySelector("h2")).focus();
        return `${userId} is no longer banned.`;
      })));
  }

  /** @param {() => Promise<string>} change which says what happened */
  async #try(change) {
    let text, failed = false;
    try {
      text = await change();
    } catch (error) {
      [text, failed] = [describe(error), true];
    }
    this.outcome.hidden = false;
    this.outcome.dataset.failed = String(failed);
    this.outcome.textContent = text;
  }
}
