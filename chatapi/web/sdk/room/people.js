/**
 * Names and pictures of users, from their profiles: asked for when somebody is first shown, and changed wherever they stand.
 * @module
 */
import { h, hueOf } from "./dom.js";

/** @typedef {import("../chatapi.js").ChatAPI} ChatAPI */
/** @typedef {{user_id: string, name?: string | null, avatar_url?: string | null}} Profile of a member or a user */

/** Signs that turn the direction of writing: a name with them would turn what stands beside it. */
const TURNING = /\p{Bidi_C}/gu;
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;
const ASK_MS = 60; // those who are shown together are asked for together
const ASKED = 100; // profiles in one call

export class People {
  /** @type {Map<string, Profile>} */ #known = new Map();
  /** @type {Set<string>} */ #wanted = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** @type {ChatAPI | undefined} */ #client;
  /** Where names stand: the page, or shadow roots in it. @type {Set<ParentNode>} */ #places = new Set();
  /** @type {Set<() => void>} */ #watchers = new Set();

  /** @param {ChatAPI} [client] that may read profiles */
  constructor(client) { this.#client = client; }

  /** Another tenant, perhaps. @param {ChatAPI | undefined} client */
  begin(client) {
    this.#client = client;
    this.#known.clear();
    this.#wanted.clear();
  }

  /** Keeps the names within a place as they are in the profiles. @param {ParentNode} place @param {() => void} changed told when a name has changed @returns {() => void} what ends it */
  follow(place, changed) {
    this.#places.add(place);
    this.#watchers.add(changed);
    return () => {
      this.#places.delete(place);
      this.#watchers.delete(changed);
    };
  }

  /** @param {Profile[]} profiles */
  learn(profiles) {
    const changed = profiles.filter(({ user_id: userId, name, avatar_url: picture }) => {
      const before = this.#known.get(userId);
      this.#known.set(userId, { user_id: userId, name, avatar_url: picture });
      return (before?.name ?? null) !== (name ?? null) || (before?.avatar_url ?? null) !== (picture ?? null);
    });
    for (const { user_id: userId } of changed) this.#show(userId);
    if (changed.length) for (const told of this.#watchers) told();
  }

  /** The name in the profile, else the id. @param {string} userId */
  nameOf(userId) {
    const profile = this.#known.get(userId);
    if (!profile) this.#want(userId);
    return profile?.name?.replace(TURNING, "").trim() || userId;
  }

  /** A name that follows the profile. @param {string} userId @param {string} [tag] */
  nameElement(userId, tag = "span") {
    return h(tag, { "data-name-of": userId, title: userId, dir: "auto" }, this.nameOf(userId));
  }

  /** The id beside a name, where the two differ. @param {string} userId */
  idElement(userId) {
    return h("small", { "data-id-of": userId, hidden: this.nameOf(userId) === userId }, userId);
  }

  /** A picture, or the first letter. @param {string} userId @param {string} [slot] `a` or `b` for the two users of the playground, who have fixed colours */
  avatar(userId, slot) {
    const element = h("span.avatar", { "aria-hidden": "true", "data-slot": slot, "data-avatar-of": userId });
    if (!slot) element.style.setProperty("--hue", String(hueOf(userId)));
    this.#draw(element, userId);
    return element;
  }

  /** @param {HTMLElement} element @param {string} userId */
  #draw(element, userId) {
    const picture = this.#known.get(userId)?.avatar_url;
    const letter = VISIBLE.exec(this.nameOf(userId))?.[0].toUpperCase() ?? "?";
    element.replaceChildren(letter);
    if (!picture) return;
    const image = h("img", { src: picture, alt: "", loading: "lazy", referrerpolicy: "no-referrer", onerror: () => image.remove() });
    element.append(image); // over the letter, which stays where the picture cannot be had
  }

  /** @param {string} userId */
  #show(userId) {
    const all = (/** @type {string} */ what) => /** @type {HTMLElement[]} */ ([...this.#places].flatMap((place) => [...place.querySelectorAll(`[data-${what}-of="${CSS.escape(userId)}"]`)]));
    for (const element of all("name")) element.textContent = this.nameOf(userId);
    for (const element of all("id")) element.hidden = this.nameOf(userId) === userId;
    for (const element of all("avatar")) this.#draw(element, userId);
  }

  /** @param {string} userId */
  #want(userId) {
    this.#wanted.add(userId);
    this.#timer ??= setTimeout(() => { this.#timer = undefined; void this.#ask(); }, ASK_MS);
  }

  async #ask() {
    const reader = this.#client;
    const ids = [...this.#wanted].slice(0, ASKED);
    if (!reader || !ids.length) return;
    for (const userId of ids) this.#wanted.delete(userId);
    if (this.#wanted.size) this.#timer = setTimeout(() => { this.#timer = undefined; void this.#ask(); }, ASK_MS);
    const found = await reader.listUsers({ ids, limit: ASKED }).catch(() => null); // being offline is shown already; they are asked for again
    if (!found || reader !== this.#client) return;
    const users = new Map(found.users.map((user) => [user.user_id, user]));
    this.learn(ids.filter((userId) => !this.#known.has(userId)).map((userId) => users.get(userId) ?? { user_id: userId }));
  }
}
