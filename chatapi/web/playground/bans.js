/**
 * The users who are banned from the open room, for its admins.
 * @module
 */
import { h, iconButton, moment } from "/sdk/room/dom.js";
import { people } from "./people.js";

/** @typedef {import("/sdk/chatapi.js").Ban} Ban */
/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */

const SHOWN = 100;

export class Bans {
  #asked = 0;

  /** @param {(userId: string) => unknown} lift */
  constructor(lift) {
    this.lift = lift;
    this.list = h("ul.member-list", { "aria-label": "Banned users" });
    this.element = h("section", { "aria-label": "Bans", hidden: true }, h("h2.bans-title", {}, "Banned"), this.list);
  }

  /** @param {ChatAPI} client of an admin @param {string} roomId */
  async load(client, roomId) {
    const asked = ++this.#asked;
    const { bans } = await client.listBans(roomId, { limit: SHOWN }).catch(() => ({ bans: [] }));
    if (asked !== this.#asked) return;
    this.element.hidden = !bans.length;
    this.list.replaceChildren(...bans.map((ban) => this.#row(ban)));
  }

  hide() {
    this.#asked++;
    this.element.hidden = true;
  }

  /** @param {Ban} ban */
  #row({ user_id: userId, reason, until }) {
    const end = until ? `until ${moment(Date.parse(until))}` : "for good";
    return h("li.member", { "data-user": userId }, people.avatar(userId), h("span.member-name", {}, people.nameElement(userId), h("small", {}, reason ? `${end}: ${reason}` : end)),
      iconButton("close", `Lift the ban of ${userId}`, () => this.lift(userId)));
  }
}
