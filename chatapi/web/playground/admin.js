/**
 * The part of the tenant's backend: with the API key it reads and resolves reports, and bans users from the tenant.
 * @module
 */
import { h } from "/sdk/room/dom.js";
import { Reports } from "./reports.js";
import { TenantBans } from "./tenant-bans.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Message} Message */

/** In whose name the calls are made: the two users at play may be banned themselves. */
export const ADMIN = "playground";

export class Admin {
  /** @param {HTMLElement} root @param {ChatAPI} client @param {{open: (message: Message) => void, banned: (userId: string) => void, counted: (count: number, more: boolean) => void}} told */
  constructor(root, client, { open, banned, counted }) {
    this.reports = new Reports(client, open, counted);
    this.bans = new TenantBans(client, banned);
    root.replaceChildren(h("div.side-scroll", { tabindex: 0, role: "region", "aria-label": "Admin" },
      h("p.muted", {}, `With the API key, in the name of ${ADMIN}, as your backend would do it.`), this.reports.element, this.bans.element));
  }

  /** @param {boolean} shown */
  show(shown) {
    if (!shown) return;
    void this.reports.refresh();
    void this.bans.refresh();
  }
}
