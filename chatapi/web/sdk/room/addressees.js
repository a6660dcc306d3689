/**
 * Those whom a user can mention in the open room: its members and, for its admins, everybody.
 * @module
 */
import { partsOf } from "./content.js";
import { mentionedIn, ROOM } from "./mentions.js";

/** @typedef {import("../chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").Room} Room */
/** @typedef {import("./mention-picker.js").Suggestion} Suggestion */
/** @typedef {import("./roster.js").Roster} Roster */

const SUGGESTED = 8;

export class Addressees {
  /** @type {Room | null} */ #room = null;
  /** Members whom the picker showed; the roster may not have them. @type {Set<string>} */ #suggested = new Set();

  /** @param {ChatAPI} client @param {string} user @param {Roster} roster @param {import("./people.js").People} people */
  constructor(client, user, roster, people) {
    this.people = people;
    this.client = client;
    this.user = user;
    this.roster = roster;
  }

  /** @param {Room} room */
  open(room) {
    this.#room = room;
    this.#suggested.clear();
  }

  /** The user has left. @param {string} userId */
  forget(userId) { this.#suggested.delete(userId); }

  /** Members whose id or name begins so. @param {string} start @returns {Promise<Suggestion[]>} */
  async suggest(start) {
    const room = this.#room;
    if (!room) return [];
    const { members } = await this.client.listMembers(room.room_id, { limit: SUGGESTED + 1, ...(start && { q: start }) }).catch(() => ({ members: [] }));
    if (room !== this.#room) return [];
    this.people.learn(members);
    const users = members.map((member) => member.user_id).filter((userId) => userId !== this.user).slice(0, SUGGESTED);
    for (const userId of users) this.#suggested.add(userId);
    const everybody = this.#mayCallAll && ROOM.startsWith(start.toLowerCase());
    return [...users.map((user) => ({ user, everybody: false })), ...(everybody ? [{ user: ROOM, everybody: true }] : [])];
  }

  /**
   * The fields of a draft that say whom it mentions. An edit keeps what stood beside the text before.
   * @param {string} content @param {Message} [before] @returns {{mentions?: string[], mention_room?: true}}
   */
  mentionsOf(content, before) {
    const earlier = [...(before?.mentions ?? []), ...(before?.mention_room ? [ROOM] : [])];
    const written = mentionedIn(withoutLinks(before?.content ?? ""), earlier);
    const users = new Set([...this.roster.ids, ...this.#suggested, ...earlier, ...(this.#mayCallAll ? [ROOM] : [])]);
    const found = new Set([...mentionedIn(withoutLinks(content), [...users]), ...earlier.filter((user) => !written.includes(user))]);
    const everybody = found.delete(ROOM);
    return { ...(found.size && { mentions: [...found] }), ...(everybody && { mention_room: true }) };
  }

  /** Room admins mention everybody, in a dm both users. */
  get #mayCallAll() { return this.#room?.type === "dm" || this.roster.get(this.user)?.role === "admin"; }
}

/** @param {string} text */
function withoutLinks(text) { return partsOf(text).map((part) => part.href ? " " : part.text).join(""); }
