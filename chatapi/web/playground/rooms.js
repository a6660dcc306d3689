/**
 * The rooms of the two users, the tenant's channels, and the form that makes new ones.
 * @module
 */
import { describe, h, iconButton, toast } from "./dom.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").Standing} Standing */
/** @typedef {{room: Room, standings: Partial<Record<"a" | "b", Standing>>}} Listed */

const REFRESH_MS = 400; // at most this often: three calls each time, of the tenant's hundred a second
const GLYPH = { dm: "@", group: "●", channel: "#" };

export class Rooms {
  /** @type {Map<string, Listed>} */ #rooms = new Map();
  /** @type {string | null} */ #current = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /**
   * @param {HTMLElement} root @param {HTMLDialogElement} dialog
   * @param {{clients: Record<"a" | "b", ChatAPI>, users: Record<"a" | "b", string>, open: (room: Room) => void}} given
   */
  constructor(root, dialog, { clients, users, open }) {
    this.clients = clients;
    this.users = users;
    this.onOpen = open;
    this.dialog = dialog;
    this.form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    this.list = h("ul.room-list");
    this.about = h("footer.room-about", { hidden: true });
    root.replaceChildren(
      h("header.panel-head", {}, h("h2", {}, "Rooms"), h("span.grow"), iconButton("plus", "New room", () => this.#askForRoom())),
      this.list, this.about);
    this.form.onsubmit = (event) => { event.preventDefault(); void this.#create(); };
    this.form.onchange = () => this.#fitForm();
    /** @type {HTMLElement} */ (this.form.querySelector("[data-cancel]")).onclick = () => dialog.close();
  }

  stop() { clearTimeout(this.#timer); }

  refreshSoon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.refresh().catch((error) => { if (error.status) toast(`Rooms: ${describe(error)}`); }); // being offline is shown already
    }, REFRESH_MS);
  }

  async refresh() {
    const [a, b, channels] = await Promise.all([
      this.clients.a.listRooms({ limit: 100 }), this.clients.b.listRooms({ limit: 100 }), this.clients.a.listChannels({ limit: 100 })]);
    /** @type {Map<string, Listed>} */
    const rooms = new Map();
    for (const [slot, rooms_] of /** @type {["a" | "b", (Room & Standing)[]][]} */ ([["a", a.rooms], ["b", b.rooms]])) {
      for (const room of rooms_) {
        const listed = rooms.get(room.room_id) ?? { room, standings: {} };
        listed.standings[slot] = room;
        rooms.set(room.room_id, listed);
      }
    }
    for (const room of channels.rooms) if (!rooms.has(room.room_id)) rooms.set(room.room_id, { room, standings: {} });
    this.#rooms = rooms;
    this.#render();
  }

  /** @param {string} roomId */
  get(roomId) { return this.#rooms.get(roomId)?.room; }

  /** @param {string} roomId */
  select(roomId) {
    this.#current = roomId;
    this.#render();
  }

  /** The room that both users have for themselves, made if need be. @returns {Promise<Room>} */
  async openDirect() {
    for (const { room } of this.#rooms.values()) if (room.type === "dm" && this.#isDirect(room)) return room;
    try {
      return await this.clients.a.createRoom({ type: "dm", members: [this.users.a, this.users.b] });
    } catch (/** @type {any} */ error) {
      if (error.code !== "CONFLICT") throw error;
      return this.clients.a.getRoom(error.details.room_id);
    }
  }

  /** @param {Room} room */
  nameOf(room) {
    if (room.name) return room.name;
    if (room.type === "dm") return room.unique_key && this.#isDirect(room) ? `${this.users.a} & ${this.users.b}` : "Direct message";
    return `${room.type === "group" ? "Group" : "Channel"} of ${room.member_count}`;
  }

  /** A dm in both users' lists is theirs. @param {Room} room */
  #isDirect(room) {
    const listed = this.#rooms.get(room.room_id);
    return Boolean(listed?.standings.a && listed.standings.b);
  }

  #render() {
    const current = this.#rooms.get(this.#current ?? "")?.room;
    this.about.hidden = !current;
    if (current) {
      this.about.replaceChildren(
        h("p.muted", {}, `${current.type}, ${current.member_count} ${current.member_count === 1 ? "member" : "members"}`),
        h("div.room-id", {}, h("code", {}, current.room_id), iconButton("copy", "Copy the room's id", () => copy(current.room_id))));
    }
    this.list.replaceChildren(...[...this.#rooms.values()].sort(byActivity).map((listed) => this.#row(listed)));
  }

  /** @param {Listed} listed */
  #row({ room, standings }) {
    const last = standings.a?.last_message ?? standings.b?.last_message;
    const preview = last ? `${last.sender_id}: ${last.deleted_at ? "deleted" : last.content}` : room.type === "channel" && !standings.a && !standings.b ? "not joined" : "no messages";
    return h("li", {}, h("button.room", { type: "button", "aria-current": room.room_id === this.#current ? "true" : null, onclick: () => this.onOpen(room) },
      h("span.glyph", { "aria-hidden": "true", "data-type": room.type }, GLYPH[room.type]),
      h("span.room-text", {}, h("span.room-name", {}, this.nameOf(room), h("span.sr", {}, `, ${room.type}`)), h("span.room-last", {}, preview)),
      h("span.room-unread", {}, ...(/** @type {const} */ (["a", "b"])).map((slot) => standings[slot]?.unread_count
        ? h("span.badge", { "data-slot": slot, title: `unread by ${this.users[slot]}` }, String(standings[slot].unread_count)) : null))));
  }

  #askForRoom() {
    this.form.reset();
    this.form.creator.replaceChildren(...Object.values(this.users).map((user) => h("option", { value: user }, user)));
    this.form.members.value = this.users.b;
    this.#complain(null);
    this.#fitForm();
    this.dialog.showModal();
  }

  #fitForm() {
    const { creator, members, roomName } = this.form;
    const direct = this.form.type.value === "dm";
    roomName.closest("label").hidden = direct;
    members.placeholder = direct ? "the other user's id" : "user ids, separated by commas";
    members.required = direct;
    const other = Object.values(this.users).find((user) => user !== creator.value) ?? "";
    if ((direct && members.value === "") || Object.values(this.users).includes(members.value)) members.value = other;
  }

  async #create() {
    const { type, creator, members, roomName } = this.form;
    const slot = creator.value === this.users.a ? "a" : "b";
    try {
      const room = await this.clients[slot].createRoom({
        type: type.value,
        members: members.value.split(/[\s,]+/).filter(Boolean),
        ...(type.value !== "dm" && roomName.value.trim() ? { name: roomName.value.trim() } : {}),
      });
      await this.#show(room);
    } catch (/** @type {any} */ error) {
      if (error.code !== "CONFLICT" || !error.details?.room_id) return this.#complain(error);
      await this.#show(await this.clients[slot].getRoom(error.details.room_id)); // this dm exists: go there
    }
  }

  /** @param {Room} room */
  async #show(room) {
    this.dialog.close();
    await this.refresh();
    this.onOpen(room);
  }

  /** @param {any} error */
  #complain(error) {
    const line = /** @type {HTMLElement} */ (this.form.querySelector(".form-error"));
    line.hidden = !error;
    line.textContent = error ? describe(error) : "";
  }
}

/** @param {string} roomId */
async function copy(roomId) {
  await navigator.clipboard?.writeText(roomId);
  toast("The room's id is in the clipboard");
}

/** @param {Listed} one @param {Listed} other */
function byActivity(one, other) {
  const time = (/** @type {Listed} */ { room, standings }) => (standings.a?.last_message ?? standings.b?.last_message)?.created_at ?? room.created_at;
  return time(one) < time(other) ? 1 : -1;
}
