/**
 * Mentions in a text: `@` and the id of a user, or `@room` for everybody.
 * @module
 */

export const ROOM = "room";
const MOST = 50; // the server takes no more

/** @typedef {{text: string, user?: string}} Piece `user`: whom this piece mentions, or ROOM */

/** Cuts a text at what mentions one of these. @param {string} text @param {string[]} users @returns {Piece[]} */
export function piecesOf(text, users) {
  if (!users.length) return [{ text }];
  const longestFirst = [...users].sort((one, other) => other.length - one.length);
  const ids = longestFirst.map((user) => user.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")).join("|");
  /** @type {Piece[]} */
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(new RegExp(`(?<![\\p{L}\\p{N}_@])@(${ids})(?![\\p{L}\\p{N}_])`, "giu"))) {
    if (match.index > end) pieces.push({ text: text.slice(end, match.index) });
    pieces.push({ text: match[0], user: users.find((user) => user === match[1]) ?? users.find((user) => user.toLowerCase() === match[1].toLowerCase()) });
    end = match.index + match[0].length;
  }
  if (end < text.length) pieces.push({ text: text.slice(end) });
  return pieces;
}

/** Whom a text mentions, of those who may be. @param {string} text @param {string[]} users @returns {string[]} */
export function mentionedIn(text, users) {
  const found = piecesOf(text, users.filter((user) => text.toLowerCase().includes(`@${user.toLowerCase()}`))).map((piece) => piece.user);
  return [...new Set(found.filter((user) => user !== undefined))].slice(0, MOST);
}

/** Whether a message is for this user: somebody else mentions them, or the room. @param {any} message @param {string} user */
export function isFor({ sender_id: sender, mentions, mention_room: everybody }, user) {
  return sender !== user && (Boolean(everybody) || (mentions ?? []).includes(user));
}
