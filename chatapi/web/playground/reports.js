/**
 * The tenant's reports, page by page: the open ones, which are resolved here, or those that are resolved.
 * @module
 */
import { clock, day, describe, h } from "/sdk/room/dom.js";
import { toast } from "./toast.js";
import { people } from "./people.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Message} Message */
/** @typedef {import("/sdk/chatapi.js").Report} Report */

const PAGE = 20;
const SHOWN_CHARS = 400;

export class Reports {
  /** @type {string | undefined} */ #cursor;
  #asked = 0;

  /** @param {ChatAPI} client of the tenant @param {(message: Message) => void} open @param {(count: number, more: boolean) => void} counted told how many are open */
  constructor(client, open, counted) {
    this.client = client;
    this.open = open;
    this.counted = counted;
    this.status = h("select", { "aria-label": "Reports that are", onchange: () => this.refresh() }, h("option", { value: "open" }, "open"), h("option", { value: "resolved" }, "resolved"));
    this.list = h("ol.report-list", { "aria-label": "Reports" });
    this.empty = h("p.muted", { role: "status" });
    this.more = h("button.button.small", { type: "button", hidden: true, onclick: () => this.#load() }, "More reports");
    this.element = h("section", { "aria-label": "Reports" },
      h("div.admin-head", {}, h("h2", { tabindex: -1 }, "Reports"), this.status, h("button.button.small", { type: "button", onclick: () => this.refresh() }, "Refresh")),
      this.empty, this.list, this.more);
  }

  refresh() {
    this.#cursor = undefined;
    return this.#load();
  }

  async #load() {
    const asked = ++this.#asked;
    const first = this.#cursor === undefined;
    const status = this.status.value;
    try {
      const page = await this.client.listReports({ status, limit: PAGE, ...(this.#cursor && { cursor: this.#cursor }) });
      if (asked !== this.#asked) return;
      const rows = page.reports.map((report) => this.#row(report));
      if (first) this.list.replaceChildren(...rows);
      else this.list.append(...rows);
      this.#cursor = page.next_cursor;
      this.more.hidden = !page.has_more;
      this.#showCount();
    } catch (error) {
      if (asked === this.#asked) this.empty.textContent = `Could not be loaded: ${describe(error)}`;
    }
  }

  #showCount() {
    const count = this.list.childElementCount;
    const open = this.status.value === "open";
    this.empty.textContent = count ? "" : open ? "No open reports." : "No report has been resolved.";
    if (open) this.counted(count, !this.more.hidden);
  }

  /** @param {Report} report */
  #row(report) {
    const { message, user_id: userId, reason, created_at: at, resolved_by: by, resolved_at: resolvedAt } = report;
    const time = (/** @type {string} */ when) => h("time.muted", { datetime: when, title: `${when}, ${day(Date.parse(when))}` }, clock(when));
    const row = h("li.report", { "data-report": report.report_id },
      h("p.report-head", {}, h("span", {}, people.nameElement(userId, "b"), " reports a message of ", people.nameElement(message.sender_id, "b")), time(at)),
      h("p.report-reason", { dir: "auto" }, reason),
      h("blockquote", { dir: "auto" }, (message.content ?? "").slice(0, SHOWN_CHARS)),
      by && resolvedAt ? h("p.muted", {}, "resolved by ", people.nameElement(by), " at ", time(resolvedAt)) : null,
      h("div.report-actions", {}, h("button.button.small", { type: "button", onclick: () => this.open(message) }, "Show the message"),
        by ? null : h("button.button.small", { type: "button", onclick: () => this.#resolve(report, row) }, "Resolve")));
    return row;
  }

  /** @param {Report} report @param {HTMLElement} row */
  async #resolve({ report_id: reportId }, row) {
    try {
      await this.client.resolveReport(reportId);
    } catch (error) {
      return toast(`Reports: ${describe(error)}`);
    }
    const next = row.nextElementSibling ?? row.previousElementSibling;
    const focused = row.contains(document.activeElement) || document.activeElement === document.body;
    row.remove();
    this.#showCount();
    if (focused) /** @type {HTMLElement} */ (next?.querySelector(".report-actions button:last-child") ?? this.element.querySelector("h2")).focus();
  }
}
