/**
 * The members of the open room with their roles, page by page, and what an admin may do with them.
 * @module
 */
import { Bans } from "./bans.js";
import { describe, h, moment } from "/sdk/room/dom.js";
import { toast } from "./toast.js";
import { LastSeen } from "./last-seen.js";
import { mutedUntil, roomChoices, userChoices } from "./member-menu.js";
import { menuButton } from "/sdk/room/menu.js";
import { people } from "./people.js";
import { RoomRules } from "./room-rules.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Member} Member */
/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").ServerEvent} ServerEvent */

/**
 * @typedef {object} Given
 * @property {Record<"a" | "b", ChatAPI>} clients
 * @property {Record<"a" | "b", string>} users
 * @property {(roomId: string, slot: "a" | "b") => {role: string} | undefined} standing
 * @property {(room: Room) => string} nameOf
 * @property {import("./blocks.js").Blocks} blocks
 * @property {import("./tenant-bans.js").TenantBans} bans of the tenant
 */

const PAGE = 50;
const SLOTS = /** @type {const} */ (["a", "b"]);
const LONGEST_TIMER_MS = 3_600_000;
const SEEN_AGAIN_MS = 30_000; // "5 minutes ago" grows old

export class Members {
  /** @type {Room | null} */ #room = null;
  /** @type {Map<string, Member>} */ #members = new Map();
  /** @type {string | undefined} */ #cursor;
  #offset = 0;
  #more = false;
  #opening = 0;
  #shown = false;
  #seen = new LastSeen();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #muteTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #seenTimer;

  /** @param {HTMLElement} root @param {Given} given */
  constructor(root, given) {
    this.given = given;
    this.title = h("p.side-title");
    this.acting = h("p.muted");
    this.list = h("ul.member-list", { "aria-label": "Members of the open room" });
    this.moreButton = h("button.button.small", { type: "button", hidden: true, onclick: () => this.#load() }, "More members");
    this.userId = h("input", { "aria-label": "User id to add", placeholder: "user id", autocomplete: "off", spellcheck: "false", required: true, maxlength: 128, pattern: "[!-~]+", title: "printable ASCII without spaces" });
    this.role = h("select", { "aria-label": "Role of the new member" }, h("option", { value: "member" }, "member"), h("option", { value: "admin" }, "admin"));
    this.form = h("form.side-form", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); void this.#add(); } },
      this.userId, this.role, h("button.button.small.primary", { type: "submit" }, "Add"));
    this.bans = new Bans((userId) => this.#try((client) => client.unbanMember(/** @type {Room} */ (this.#room).room_id, userId)));
    this.rules = new RoomRules((change) => this.#rule(change));
    root.replaceChildren(h("div.side-head", {}, this.title, this.acting), this.rules.element, this.form,
      h("div.side-scroll", { tabindex: 0, role: "region", "aria-label": "Members" }, this.list, this.moreButton, this.bans.element));
  }

  /** @param {Room} room */
  open(room) {
    this.#room = room;
    this.#reset();
  }

  /** Members are asked for when somebody looks. @param {boolean} shown */
  show(shown) {
    const begins = shown && !this.#shown;
    this.#shown = shown;
    clearInterval(this.#seenTimer);
    if (shown) this.#seenTimer = setInterval(() => this.refresh(), SEEN_AGAIN_MS);
    if (begins && this.#offset === 0) void this.#load();
    else if (begins) this.#render();
  }

  /** @param {ServerEvent} event */
  happened(event) {
    if (event.type === "presence.update") {
      this.#seen.changed(event.user_id, event.status);
      if (this.#members.has(event.user_id)) this.refresh();
      return;
    }
    if (event.room_id !== this.#room?.room_id) return;
    if (event.type === "room.updated") this.#room = { .../** @type {Room} */ (this.#room), posting: event.posting, slow_mode_seconds: event.slow_mode_seconds };
    if (this.#offset === 0) return;
    const { user_id, role, muted_until } = event;
    if (event.type === "member.banned" || event.type === "member.unbanned") this.#loadBans();
    if (event.type === "member.left" || event.type === "member.banned") this.#members.delete(user_id);
    else if (event.type === "member.updated" && this.#members.has(user_id)) this.#put({ ...this.#members.get(user_id), role, muted_until });
    else if (event.type === "member.joined" && !this.#more && !this.#members.has(user_id)) this.#put({ user_id, role, muted_until, joined_at: new Date().toISOString() });
    else if (event.type === "room.created") return this.#reset();
    else if (!event.type.startsWith("room.")) return;
    this.#render();
  }

  /** Blocks, bans of the tenant or the time have changed how members look. */
  refresh() { if (this.#shown && this.#offset) this.#render(); }

  stop() {
    clearInterval(this.#seenTimer);
    clearTimeout(this.#muteTimer);
    this.#opening++;
  }

  /** @param {any} member */
  #put(member) { this.#members.set(member.user_id, member); }

  #reset() {
    this.#opening++;
    this.#members.clear();
    this.#seen.clear();
    this.#cursor = undefined;
    this.#offset = 0;
    this.#more = false;
    this.#render();
    if (this.#shown) void this.#load();
  }

  /** The slot of the user who acts: an admin, else a member, else the first. @returns {"a" | "b"} */
  #actor() {
    const slots = SLOTS.filter((slot) => !this.given.bans.isBanned(this.given.users[slot]));
    return slots.find((slot) => this.#roleOf(slot) === "admin") ?? slots.find((slot) => this.#roleOf(slot)) ?? slots[0] ?? "a";
  }

  /** @param {"a" | "b"} slot @returns {string | undefined} */
  #roleOf(slot) {
    const room = this.#room;
    return room ? this.#members.get(this.given.users[slot])?.role ?? this.given.standing(room.room_id, slot)?.role : undefined;
  }

  async #load() {
    const room = this.#room;
    const opening = this.#opening;
    if (!room) return;
    try {
      const start = this.#cursor ? { cursor: this.#cursor } : { offset: this.#offset };
      const page = await this.#readAsEither(room, { limit: PAGE, ...start });
      if (opening !== this.#opening) return;
      for (const member of page.members) this.#put(member);
      people.learn(page.members);
      this.#offset += page.members.length;
      this.#cursor = page.next_cursor ?? undefined;
      this.#more = page.has_more;
      this.#render();
      this.#loadBans();
      const told = await this.#seen.load(this.given.clients[this.#actor()], room, page.members.map((/** @type {Member} */ one) => one.user_id));
      if (told && opening === this.#opening) this.refresh();
    } catch (error) {
      if (opening === this.#opening) this.list.replaceChildren(h("li.empty", {}, `Could not be loaded: ${describe(error)}`));
    }
  }

  #loadBans() {
    const actor = this.#actor();
    const room = /** @type {Room} */ (this.#room);
    if (room.type !== "dm" && this.#roleOf(actor) === "admin") void this.bans.load(this.given.clients[actor], room.room_id);
    else this.bans.hide();
  }

  /** One of the two may be outside. @param {Room} room @param {any} page @returns {Promise<any>} */
  async #readAsEither(room, page) {
    const slot = this.#actor();
    try {
      return await this.given.clients[slot].listMembers(room.room_id, page);
    } catch (/** @type {any} */ error) {
      if (error.status !== 403) throw error;
      return this.given.clients[slot === "a" ? "b" : "a"].listMembers(room.room_id, page);
    }
  }

  #render() {
    const room = this.#room;
    if (!room) return;
    const name = this.given.nameOf(room);
    const actor = this.#actor();
    const role = this.#roleOf(actor);
    const fixed = room.type === "dm";
    this.title.textContent = name;
    this.title.title = name;
    this.acting.textContent = fixed ? "A direct message always has the same two members." : `Changes are made as ${this.given.users[actor]}${role ? ` (${role})` : ""}.`;
    this.form.hidden = fixed;
    this.rules.show(room);
    const focused = /** @type {HTMLElement | null} */ (document.activeElement?.closest(".member-list > .member"))?.dataset.user;
    this.list.replaceChildren(...[...this.#members.values()].map((member) => this.#row(member)));
    if (focused && document.activeElement === document.body) this.list.querySelector(`[data-user="${CSS.escape(focused)}"] button`)?.focus({ preventScroll: true });
    this.moreButton.hidden = !this.#more;
    this.#renderAtEndOfMute();
  }

  /** No event tells that a mute has ended. */
  #renderAtEndOfMute() {
    clearTimeout(this.#muteTimer);
    const ends = [...this.#members.values()].map(mutedUntil).filter((until) => until > Date.now());
    if (ends.length) this.#muteTimer = setTimeout(() => this.#render(), Math.min(LONGEST_TIMER_MS, Math.min(...ends) - Date.now() + 100));
  }

  /** @param {Member} member */
  #row(member) {
    const { users, blocks, bans } = this.given;
    const slot = SLOTS.find((one) => users[one] === member.user_id);
    const until = mutedUntil(member);
    const blockers = SLOTS.filter((one) => blocks.has(one, member.user_id)).map((one) => users[one]);
    return h("li.member", { "data-user": member.user_id }, people.avatar(member.user_id, slot),
      h("span.member-name", { title: `${member.user_id}, since ${member.joined_at}` }, people.nameElement(member.user_id), people.idElement(member.user_id), this.#seen.element(member.user_id)),
      until > Date.now() ? h("span.role", { "data-role": "muted", title: `muted until ${moment(until)}` }, "muted", h("span.sr", {}, ` until ${moment(until)}`)) : null,
      blockers.length ? h("span.role", { "data-role": "blocked", title: `blocked by ${blockers.join(" and ")}` }, "blocked", h("span.sr", {}, ` by ${blockers.join(" and ")}`)) : null,
      bans.isBanned(member.user_id) ? h("span.role", { "data-role": "banned", title: "banned from the tenant" }, "banned") : null,
      h("span.role", { "data-role": member.role }, member.role),
      menuButton(`Change ${member.user_id}`, () => ({ choices: this.#choices(member) }), "more"));
  }

  /** @param {Member} member @returns {import("/sdk/room/menu.js").Choice[]} */
  #choices(member) {
    const room = /** @type {Room} */ (this.#room);
    const { users, blocks, bans } = this.given;
    const acting = { asAdmin: (/** @type {any} */ change) => this.#try(change), remove: () => this.#remove(room, member.user_id) };
    const others = userChoices(member.user_id, users, blocks, bans, (change) => this.#attempt(change));
    return [...(room.type === "dm" ? [] : roomChoices(room, member, acting)), ...others];
  }

  /** Each of the two users leaves by themselves. @param {Room} room @param {string} userId */
  #remove(room, userId) {
    const { clients, users } = this.given;
    const own = SLOTS.find((slot) => users[slot] === userId);
    return this.#try((client) => (own ? clients[own] : client).removeMember(room.room_id, userId));
  }

  async #add() {
    const room = /** @type {Room} */ (this.#room);
    const userId = this.userId.value.trim();
    const done = await this.#try((client) => client.addMember(room.room_id, userId, { role: this.role.value }));
    if (done) this.userId.value = "";
  }

  /** @param {{posting?: import("/sdk/chatapi.js").Posting, slow_mode_seconds?: number}} change */
  async #rule(change) {
    const room = /** @type {Room} */ (this.#room);
    if (!await this.#try((client) => client.updateRoom(room.room_id, change))) this.rules.show(room);
  }

  /** For a change outside the room. @param {Promise<unknown>} change */
  async #attempt(change) {
    await change.catch((error) => toast(`Members: ${describe(error)}`));
    this.refresh();
  }

  /** @param {(client: ChatAPI) => Promise<unknown>} change */
  async #try(change) {
    try {
      await change(this.given.clients[this.#actor()]);
      if (this.#more || !this.#offset) this.#reset(); // the new one may be beyond what is shown
      return true;
    } catch (error) {
      toast(`Members: ${describe(error)}`);
      return false;
    }
  }
}
