/**
 * The list of rooms: the newest first, more on scroll, a filter, and what there is to say of the open one.
 * @module
 */
import { copy } from "/sdk/room/copy.js";
import { describe, h, iconButton } from "/sdk/room/dom.js";
import { toast } from "./toast.js";
import { isOpen, startOf } from "/sdk/room/growing.js";
import { isBan } from "/sdk/room/reasons.js";
import { dmUsers, RoomIndex } from "./room-index.js";
import { roomViewElement } from "./room-view.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").Standing} Standing */
/** @typedef {import("./room-index.js").Listed} Listed */

const REFRESH_MS = 400; // at most this often: three calls each time, of the tenant's hundred a second
const ROWS = 60; // more are drawn when they are scrolled to
const SEARCHED_PAGES = 20; // at once, for a filter that matches little of what is here
const SLOTS = /** @type {const} */ (["a", "b"]);
const GLYPH = { dm: "@", group: "●", channel: "#" };
/** How a room without a name is called. @type {Record<string, string>} */
const KIND = { group: "Group", channel: "Channel" };

export class Rooms {
  /** @type {string | null} */ #current = null;
  #filter = "";
  #drawn = ROWS;
  #loading = false;
  #searched = 0;
  /** @type {Map<string, {looks: string, row: HTMLElement}>} */ #rows = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {HTMLElement} root @param {{clients: Record<"a" | "b", ChatAPI>, users: Record<"a" | "b", string>, agent: import("./agent.js").Agent | null, open: (room: Room) => void, create: () => void, mentions: () => void, changed: () => void}} given */
  constructor(root, { clients, users, agent, open, create, mentions, changed }) {
    this.clients = clients;
    this.users = users;
    this.onOpen = open;
    this.onChange = changed;
    this.index = new RoomIndex(clients);
    this.list = h("ul.room-list", { "aria-label": "Rooms, the most recently active first" });
    this.count = h("p.room-count.muted", { role: "status" });
    this.more = h("button.button.small.room-more", { type: "button", hidden: true, onclick: () => this.#showMore() }, "More rooms");
    this.agent = agent;
    this.meet = agent?.button("button.button.small.room-more");
    this.about = h("footer.room-about", { hidden: true });
    root.replaceChildren(
      h("header.panel-head", {}, h("h2", {}, "Rooms"), h("span.grow"), iconButton("at", "Mentions", mentions), iconButton("plus", "New room", create)),
      h("div.room-filter", {}, h("input", { type: "search", placeholder: "Find a room", "aria-label": "Find a room by name, user or id",
        oninput: (/** @type {any} */ { target }) => this.#search(target.value) })),
      this.count, h("div.room-scroll", { tabindex: -1 }, this.list, this.more, this.meet), this.about);
    this.watcher = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) void this.#showMore(); },
      { root: this.more.parentElement, rootMargin: "200px" });
    this.watcher.observe(this.more);
  }

  stop() {
    clearTimeout(this.#timer);
    this.watcher.disconnect();
  }

  refreshSoon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.refresh().catch((error) => { if (error.status) toast(`Rooms: ${describe(error)}`); }); // being offline is shown already
    }, REFRESH_MS);
  }

  async refresh() {
    await this.index.refresh();
    this.#render();
    this.onChange();
  }

  /** @param {string} roomId @returns {Room | undefined} */
  get(roomId) { return this.index.get(roomId)?.room; }

  /** The room, wherever in the lists it stands. @param {string} roomId @returns {Promise<Room | undefined>} */
  async find(roomId) {
    for (const client of [this.clients.a, this.clients.b]) {
      const room = this.get(roomId) ?? await client.getRoom(roomId).catch(() => undefined);
      if (room) return room;
    }
    return undefined;
  }

  /** Those that are known. */
  get all() { return this.index.sorted().map(({ room }) => room); }

  /** The most recently active one. */
  get first() { return this.index.sorted()[0]?.room; }

  /** @param {string} roomId @param {"a" | "b"} slot */
  standing(roomId, slot) { return this.index.get(roomId)?.standings[slot]; }

  /** @param {string} roomId @param {"a" | "b"} [slot] */
  forget(roomId, slot) {
    this.index.forget(roomId, slot);
    this.#render();
  }

  /** @param {Room} room */
  select(room) {
    this.#current = room.room_id;
    if (!this.get(room.room_id)) this.index.add(room);
    this.#render();
  }

  /** The room that both users have for themselves, made if need be. @returns {Promise<Room>} */
  async openDirect() {
    const pair = new Set([this.users.a, this.users.b]);
    for (const { room } of this.index.sorted()) if (room.type === "dm" && dmUsers(room).every((user) => pair.has(user))) return room;
    const create = (/** @type {"a" | "b"} */ slot) => this.clients[slot].createRoom({ type: "dm", members: [this.users.a, this.users.b] })
      .catch((/** @type {any} */ error) => { if (error.status === 409) return this.clients[slot].getRoom(error.details.room_id); throw error; });
    return create("a").catch((error) => { if (isBan(error)) return create("b"); throw error; });
  }

  /** @param {Room} room */
  nameOf(room) {
    const known = this.get(room.room_id) ?? room;
    if (known.name) return known.name;
    if (known.type === "dm") {
      const users = dmUsers(known);
      const ours = [this.users.a, this.users.b].filter((user) => users.includes(user));
      return [...ours, ...users.filter((user) => !ours.includes(user))].join(" & ") || "Direct message";
    }
    return `${KIND[known.type] ?? "Room"} of ${known.member_count}`;
  }

  /* Finding one */

  /** @param {string} text */
  #search(text) {
    this.#filter = text.trim().toLowerCase();
    this.#drawn = ROWS;
    this.#searched = 0;
    this.#render();
    if (/^room_[0-9a-f]{8,}$/.test(this.#filter) && !this.get(this.#filter)) void this.#findById(this.#filter);
  }

  /** @param {string} roomId */
  async #findById(roomId) {
    const room = await this.find(roomId);
    if (!room) return;
    this.index.add(room);
    this.#render();
  }

  /** @param {Listed} listed */
  #matches({ room }) {
    if (!this.#filter) return true;
    return [this.nameOf(room), room.room_id, room.type].some((text) => text.toLowerCase().includes(this.#filter));
  }

  /** More of what is here, else of what the server has. */
  async #showMore() {
    if (this.#loading) return;
    const found = this.index.sorted().filter((listed) => this.#matches(listed)).length;
    if (this.#drawn < found) {
      this.#drawn += ROWS;
      return this.#render();
    }
    if (!this.index.more || (this.#filter && this.#searched >= SEARCHED_PAGES)) return;
    this.#loading = true;
    this.#searched++;
    this.#render();
    try {
      await this.index.loadMore();
      this.#drawn += ROWS;
    } catch (error) {
      toast(`Rooms: ${describe(error)}`);
      this.#searched = SEARCHED_PAGES;
    } finally {
      this.#loading = false;
      this.#render();
    }
    this.watcher.unobserve(this.more); // observing again reports a button that is still in sight
    this.watcher.observe(this.more);
  }

  /* Rooms on the page */

  #render() {
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.roomId;
    const found = this.index.sorted().filter((listed) => this.#matches(listed));
    const drawn = found.slice(0, this.#drawn);
    const current = this.index.get(this.#current ?? "");
    if (current && !this.#filter && !drawn.includes(current)) drawn.unshift(current); // one sees where one is
    const rows = drawn.map((listed) => this.#row(listed));
    const before = [...this.list.children];
    if (rows.length !== before.length || rows.some((row, at) => row !== before[at])) this.list.replaceChildren(...rows);
    if (focused && document.activeElement === document.body) this.list.querySelector(`[data-room-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    this.#showCount(found.length);
    this.more.hidden = found.length <= this.#drawn && !this.index.more;
    if (this.meet) this.meet.hidden = Boolean(this.#filter) || this.all.some((room) => this.agent?.isOf(room));
    this.more.textContent = this.#loading ? "Loading …" : this.#filter && found.length <= this.#drawn ? "Look further" : "More rooms";
    this.#showAbout();
  }

  /** @param {number} found */
  #showCount(found) {
    const all = `${this.index.size.toLocaleString()}${this.index.more ? "+" : ""}`;
    this.count.hidden = !this.#filter && !this.index.more && this.index.size <= ROWS;
    const text = this.#filter ? `${found.toLocaleString()} of ${all} rooms` : `${all} rooms`;
    if (this.count.textContent !== text) this.count.textContent = text;
  }

  #showAbout() {
    const current = this.get(this.#current ?? "");
    this.about.hidden = !current;
    const standings = this.index.get(this.#current ?? "")?.standings ?? {};
    const views = SLOTS.map((slot) => [standings[slot]?.notify, standings[slot]?.hidden]);
    const looks = JSON.stringify([current?.room_id, current?.member_count, views]);
    if (!current || this.about.dataset.looks === looks) return;
    this.about.dataset.looks = looks;
    this.about.replaceChildren(
      h("p.muted", {}, `${current.type}, ${current.member_count.toLocaleString()} ${current.member_count === 1 ? "member" : "members"}`),
      h("div.room-id", {}, h("code", { title: current.room_id }, current.room_id), iconButton("copy", "Copy the room's id", () => copy(current.room_id, "The room's id", toast))),
      roomViewElement(this.users, standings, (slot, change) => this.#changeView(slot, current.room_id, change)));
  }

  /** @param {"a" | "b"} slot @param {string} roomId @param {{notify?: import("/sdk/chatapi.js").NotifyLevel, hidden?: boolean}} change */
  async #changeView(slot, roomId, change) {
    try {
      await this.clients[slot].updateView(roomId, change);
    } catch (error) {
      toast(`Rooms: ${describe(error)}`);
    }
    this.refreshSoon();
  }

  /** The same element for a room that looks the same, so that the focus stays. @param {Listed} listed */
  #row(listed) {
    const { room, standings } = listed;
    const last = standings.a?.last_message ?? standings.b?.last_message;
    const preview = last ? isOpen(last) ? `${last.sender_id} is writing …` : `${last.sender_id}: ${last.deleted_at ? "deleted" : startOf(last, 200)}`
      : room.type === "channel" && !standings.a && !standings.b ? "not joined" : "no messages";
    const name = this.nameOf(room);
    const unread = SLOTS.map((slot) => standings[slot]?.unread_count ?? 0);
    const mentions = SLOTS.map((slot) => standings[slot]?.unread_mentions ?? 0);
    const current = room.room_id === this.#current;
    const hidden = SLOTS.filter((slot) => standings[slot]?.hidden).map((slot) => this.users[slot]);
    const looks = JSON.stringify([name, preview, unread, mentions, hidden, current, room.type]);
    const known = this.#rows.get(room.room_id);
    if (known?.looks === looks) return known.row;
    const row = h("li", {}, h("button.room", {
      type: "button", "aria-current": current ? "true" : null, "data-room-id": room.room_id, title: `${name} (${room.type})\n${preview}`,
      onclick: () => this.onOpen(/** @type {Room} */ (this.get(room.room_id) ?? room)),
    },
      h("span.glyph", { "aria-hidden": "true", "data-type": room.type }, GLYPH[room.type]),
      h("span.room-text", {}, h("span.room-name", { dir: "auto" }, name, h("span.sr", {}, `, ${room.type}`)), h("span.room-last", { dir: "auto" }, hidden.length ? h("i", {}, `hidden from ${hidden.join(" and ")}: `) : null, preview)),
      h("span.room-unread", {}, ...SLOTS.map((slot, at) => this.#badge(slot, unread[at], mentions[at])))));
    this.#rows.set(room.room_id, { looks, row });
    return row;
  }

  /** @param {"a" | "b"} slot @param {number} unread @param {number} mentions */
  #badge(slot, unread, mentions) {
    if (!unread) return null;
    const called = mentions ? `, ${mentions >= 1000 ? "1000 or more" : mentions} with a mention` : "";
    const count = unread >= 1000 ? "1000+" : String(unread);
    return h("span.badge", { "data-slot": slot, title: `unread by ${this.users[slot]}${called}` }, mentions ? `@ ${count}` : count, h("span.sr", {}, ` unread by ${this.users[slot]}${called}`));
  }
}
