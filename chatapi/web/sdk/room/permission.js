/**
 * Whether a user may write in the open room now, why not, and until when. The server decides; this tells it beforehand.
 * @module
 */
import { moment } from "./dom.js";

/** @typedef {import("../chatapi.js").Member} Member */
/** @typedef {import("../chatapi.js").Room} Room */
/** @typedef {{label: string, run: () => unknown}} Remedy what the user can do about it */
/** @typedef {{kind: "banned" | "blocked" | "muted" | "posting" | "slow", reason: string, until: number | null, remedy?: Remedy}} Obstacle `until`: in ms, by this browser's clock */

const MARGIN_MS = 100; // the server's clock decides, and it is known only so well
const LONGEST_TIMER_MS = 3_600_000;

export class Permission {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #skew = 0;
  #mutedUntil = 0;
  #lastPost = 0;
  #slowUntil = 0;
  #admin = false;
  /** Until then the user is banned from the tenant. */ #bannedUntil = 0;
  /** @type {{reason: string, remedy?: Remedy} | null} */ #block = null;
  /** @type {Room | null} */ #room = null;
  /** @type {Obstacle | null} */ obstacle = null;

  /** @param {string} whole what a ban from everything is a ban from @param {(obstacle: Obstacle | null) => void} changed */
  constructor(whole, changed) {
    this.whole = whole;
    this.changed = changed;
  }

  stop() { clearTimeout(this.#timer); }

  /** How the server's clock differs from this one. @param {string} serverTime */
  setClock(serverTime) {
    this.#skew = Date.parse(serverTime) - Date.now() || 0;
    this.#judge();
  }

  /** Another room. @param {Room} room */
  open(room) {
    this.#mutedUntil = this.#lastPost = this.#slowUntil = 0;
    this.#admin = false;
    this.#block = null;
    this.setRoom(room);
  }

  /** @param {Room} room */
  setRoom(room) {
    this.#room = room;
    this.#slowUntil = 0;
    this.#judge();
  }

  /** @param {Pick<Member, "role" | "muted_until"> | undefined} member */
  setMember(member) {
    this.#admin = member?.role === "admin";
    this.#mutedUntil = member?.muted_until ? Date.parse(member.muted_until) : 0;
    this.#judge();
  }

  /** In a dm, one of the two has blocked the other. @param {{reason: string, remedy?: Remedy} | null} block */
  setBlock(block) {
    this.#block = block;
    this.#judge();
  }

  /** From the tenant. @param {{banned_until: string | null} | null} ban */
  setBan(ban) {
    this.#bannedUntil = !ban ? 0 : ban.banned_until === null ? Infinity : Date.parse(ban.banned_until);
    this.#judge();
  }

  /** The user posted then. @param {string} time */
  posted(time) {
    this.#lastPost = Math.max(this.#lastPost, Date.parse(time));
    this.#judge();
  }

  /** The server refused something. @param {any} error */
  refused({ details }) {
    if (details?.muted_until) this.#mutedUntil = Date.parse(details.muted_until);
    if (details?.slow_mode_until) this.#slowUntil = Date.parse(details.slow_mode_until);
    this.#judge();
  }

  #judge() {
    clearTimeout(this.#timer);
    const before = this.obstacle;
    this.obstacle = this.#find(Date.now() + this.#skew);
    const left = (this.obstacle?.until ?? Infinity) - Date.now() + MARGIN_MS;
    if (left < Infinity) this.#timer = setTimeout(() => this.#judge(), Math.min(left, LONGEST_TIMER_MS));
    if (before?.kind !== this.obstacle?.kind || before?.until !== this.obstacle?.until || before?.reason !== this.obstacle?.reason) this.changed(this.obstacle);
  }

  /** @param {number} now by the server's clock @returns {Obstacle | null} */
  #find(now) {
    if (this.#bannedUntil > now) {
      const until = this.#bannedUntil;
      return until === Infinity ? { kind: "banned", reason: `You are banned from ${this.whole}.`, until: null }
        : { kind: "banned", reason: `You are banned from ${this.whole} until ${moment(until)}.`, until: until - this.#skew };
    }
    if (this.#block) return { kind: "blocked", until: null, ...this.#block };
    if (this.#mutedUntil > now) return { kind: "muted", reason: `You are muted until ${moment(this.#mutedUntil)}.`, until: this.#mutedUntil - this.#skew };
    if (this.#admin) return null;
    if (this.#room?.posting === "admins") return { kind: "posting", reason: "Only admins may post here.", until: null };
    const seconds = this.#room?.slow_mode_seconds ?? 0;
    const until = Math.max(this.#slowUntil, seconds && this.#lastPost + seconds * 1000);
    return until > now ? { kind: "slow", reason: "Slow mode: you may write again", until: until - this.#skew } : null;
  }
}
