/**
 * The rooms of the two users and the tenant's channels, page by page: those that are known, and whether there are more.
 * @module
 */

import { isBan } from "/sdk/room/reasons.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").Standing} Standing */
/** @typedef {"a" | "b" | "channels"} Source */
/** @typedef {{room: Room, standings: Partial<Record<"a" | "b", Standing>>}} Listed */

const PAGE = 50;
const SOURCES = /** @type {const} */ (["a", "b", "channels"]);

/** One list of the server: how far it has been read. */
class List {
  /** Of the rooms that it gave. @type {Set<string>} */ seen = new Set();
  offset = 0;
  /** @type {string | undefined} */ cursor;
  more = true;
}

export class RoomIndex {
  /** @type {Map<string, Listed>} */ #rooms = new Map();
  #lists = { a: new List(), b: new List(), channels: new List() };

  /** @param {Record<"a" | "b", ChatAPI>} clients */
  constructor(clients) { this.clients = clients; }

  get size() { return this.#rooms.size; }

  /** Whether the server has rooms that are not here yet. */
  get more() { return SOURCES.some((source) => this.#lists[source].more); }

  /** @param {string} roomId */
  get(roomId) { return this.#rooms.get(roomId); }

  /** The most recently active first. @returns {Listed[]} */
  sorted() { return [...this.#rooms.values()].sort(byActivity); }

  /** A room that was found by other means. @param {Room} room */
  add(room) {
    const listed = this.#rooms.get(room.room_id);
    this.#rooms.set(room.room_id, { room, standings: listed?.standings ?? {} });
  }

  /** The newest page of each list again. Rooms of later pages stay as they are. */
  async refresh() {
    await Promise.all(SOURCES.map(async (source) => {
      const page = await this.#ask(source, { limit: PAGE });
      const list = this.#lists[source];
      if (!page.has_more) {
        this.#forgetOthers(source, new Set(page.rooms.map((/** @type {Room} */ { room_id: roomId }) => roomId)));
        list.more = false;
      }
      if (list.offset === 0) this.#advance(list, page);
      this.#take(source, page.rooms);
    }));
  }

  /** The next page of each list that has one. */
  async loadMore() {
    await Promise.all(SOURCES.filter((source) => this.#lists[source].more).map(async (source) => {
      const list = this.#lists[source];
      const page = await this.#ask(source, { limit: PAGE, ...(list.cursor ? { cursor: list.cursor } : { offset: list.offset }) });
      this.#advance(list, page);
      this.#take(source, page.rooms);
    }));
  }

  /** The user is no longer in the room, or there is no such room any more. @param {string} roomId @param {"a" | "b"} [slot] */
  forget(roomId, slot) {
    const listed = this.#rooms.get(roomId);
    if (!listed) return;
    if (slot) delete listed.standings[slot];
    const followed = slot && (listed.room.type === "channel" || listed.standings.a || listed.standings.b);
    if (!followed) this.#rooms.delete(roomId);
  }

  /** @param {Source} source @param {Record<string, unknown>} page @returns {Promise<any>} */
  async #ask(source, page) {
    try {
      if (source !== "channels") return await this.clients[source].listRooms({ ...page, hidden: true }); // hidden ones are marked here, so that they can be shown again
      return await this.clients.a.listChannels(page).catch((error) => { if (isBan(error)) return this.clients.b.listChannels(page); throw error; });
    } catch (error) {
      if (isBan(error)) return { rooms: [], has_more: false }; // the user's pane tells of it
      throw error;
    }
  }

  /** @param {List} list @param {any} page */
  #advance(list, page) {
    list.offset += page.rooms.length;
    list.cursor = page.next_cursor ?? undefined;
    list.more = page.has_more;
  }

  /** @param {Source} source @param {any[]} rooms */
  #take(source, rooms) {
    for (const room of rooms) {
      this.#lists[source].seen.add(room.room_id);
      const standings = this.#rooms.get(room.room_id)?.standings ?? {};
      if (source !== "channels") standings[source] = room;
      this.#rooms.set(room.room_id, { room, standings });
    }
  }

  /** The list is whole and short: rooms that it does not name are not in it. @param {Source} source @param {Set<string>} present */
  #forgetOthers(source, present) {
    const list = this.#lists[source];
    for (const roomId of list.seen) {
      if (present.has(roomId)) continue;
      list.seen.delete(roomId);
      if (source !== "channels") this.forget(roomId, source);
      else if (!this.#lists.a.seen.has(roomId) && !this.#lists.b.seen.has(roomId)) this.forget(roomId);
    }
  }
}

/** When something last happened in it, as far as the list says. @param {Listed} listed */
function activeAt({ room, standings }) {
  return (standings.a?.last_message ?? standings.b?.last_message)?.created_at ?? room.created_at;
}

/** @param {Listed} one @param {Listed} other */
function byActivity(one, other) {
  const [first, second] = [activeAt(one), activeAt(other)];
  return first === second ? 0 : first < second ? 1 : -1;
}

/** The two users of a dm: `dm:5:alice:bob`, the first one's length before them, since ids may hold any sign. @param {Room} room @returns {string[]} */
export function dmUsers({ unique_key: key }) {
  const match = /^dm:(\d+):/.exec(key ?? "");
  if (!match || !key) return [];
  const start = match[0].length;
  const end = start + Number(match[1]);
  return [key.slice(start, end), key.slice(end + 1)];
}
