/**
 * Names and pictures of users, from their profiles: asked for when somebody is first shown, and changed wherever they stand.
 * @module
 */
import { h, hueOf } from "./dom.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {{user_id: string, name?: string | null, avatar_url?: string | null}} Profile of a member or a user */

/** Signs that turn the direction of writing: a name with them would turn what stands beside it. */
const TURNING = /\p{Bidi_C}/gu;
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;
const ASK_MS = 60; // those who are shown together are asked for together
const ASKED = 100; // profiles in one call

/** @type {Map<string, Profile>} */
const known = new Map();
/** @type {Set<string>} */
const wanted = new Set();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {ChatAPI | undefined} */
let client;
let watcher = () => {};

/** Another tenant, perhaps. @param {ChatAPI} reader @param {() => void} changed told when names have changed */
export function beginPeople(reader, changed) {
  client = reader;
  watcher = changed;
  known.clear();
  wanted.clear();
}

/** @param {Profile[]} profiles */
export function learnPeople(profiles) {
  const changed = profiles.filter(({ user_id: userId, name, avatar_url: picture }) => {
    const before = known.get(userId);
    known.set(userId, { user_id: userId, name, avatar_url: picture });
    return (before?.name ?? null) !== (name ?? null) || (before?.avatar_url ?? null) !== (picture ?? null);
  });
  for (const { user_id: userId } of changed) show(userId);
  if (changed.length) watcher();
}

/** The name in the profile, else the id. @param {string} userId */
export function nameOf(userId) {
  const profile = known.get(userId);
  if (!profile) want(userId);
  return profile?.name?.replace(TURNING, "").trim() || userId;
}

/** A name that follows the profile. @param {string} userId @param {string} [tag] */
export function nameElement(userId, tag = "span") {
  return h(tag, { "data-name-of": userId, title: userId, dir: "auto" }, nameOf(userId));
}

/** The id beside a name, where the two differ. @param {string} userId */
export function idElement(userId) {
  return h("small", { "data-id-of": userId, hidden: nameOf(userId) === userId }, userId);
}

/** A picture, or the first letter. @param {string} userId @param {string} [slot] `a` or `b` for the two users at play, who have fixed colours */
export function avatar(userId, slot) {
  const element = h("span.avatar", { "aria-hidden": "true", "data-slot": slot, "data-avatar-of": userId });
  if (!slot) element.style.setProperty("--hue", String(hueOf(userId)));
  draw(element, userId);
  return element;
}

/** @param {HTMLElement} element @param {string} userId */
function draw(element, userId) {
  const picture = known.get(userId)?.avatar_url;
  const letter = VISIBLE.exec(nameOf(userId))?.[0].toUpperCase() ?? "?";
  element.replaceChildren(letter);
  if (!picture) return;
  const image = h("img", { src: picture, alt: "", loading: "lazy", referrerpolicy: "no-referrer", onerror: () => image.remove() });
  element.append(image); // over the letter, which stays where the picture cannot be had
}

/** @param {string} userId */
function show(userId) {
  const all = (/** @type {string} */ what) => /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`[data-${what}-of="${CSS.escape(userId)}"]`));
  for (const element of all("name")) element.textContent = nameOf(userId);
  for (const element of all("id")) element.hidden = nameOf(userId) === userId;
  for (const element of all("avatar")) draw(element, userId);
}

/** @param {string} userId */
function want(userId) {
  wanted.add(userId);
  timer ??= setTimeout(() => { timer = undefined; void ask(); }, ASK_MS);
}

async function ask() {
  const reader = client;
  const ids = [...wanted].slice(0, ASKED);
  if (!reader || !ids.length) return;
  for (const userId of ids) wanted.delete(userId);
  if (wanted.size) timer = setTimeout(() => { timer = undefined; void ask(); }, ASK_MS);
  const found = await reader.listUsers({ ids, limit: ASKED }).catch(() => null); // being offline is shown already; they are asked for again
  if (!found || reader !== client) return;
  const users = new Map(found.users.map((user) => [user.user_id, user]));
  learnPeople(ids.filter((userId) => !known.has(userId)).map((userId) => users.get(userId) ?? { user_id: userId }));
}
