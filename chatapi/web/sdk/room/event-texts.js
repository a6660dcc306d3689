/**
 * Sentences about events of a room.
 * @module
 */
import { duration } from "./dom.js";
import { nameOfEmoji } from "./emoji-picker.js";

/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").Room} Room */
/** @typedef {import("../chatapi.js").ServerEvent} ServerEvent */

const QUOTED = 80; // characters of the message

/** @param {ServerEvent} event that a reaction came or went @param {Message} message that it belongs to @param {(userId: string) => string} nameOf */
export function describeReaction({ type, user_id: userId, emoji }, message, nameOf) {
  const quote = `“${(message.content ?? "").slice(0, QUOTED)}”`;
  const [name, sign] = [nameOf(userId), nameOfEmoji(emoji)];
  return type === "reaction.added" ? `${name} reacted with ${sign} to ${quote}` : `${name} took ${sign} back from ${quote}`;
}

/** A sentence for each thing that is different; at least one. @param {Room} before @param {Room} now @returns {string[]} */
export function describeRoomChanges(before, now) {
  const { name, posting, slow_mode_seconds: slow } = now;
  const changes = [];
  if (name !== before.name) changes.push(`The room is now called ${name ?? "nothing"}`);
  if (posting !== before.posting) changes.push(posting === "admins" ? "Only admins may post now" : "All members may post now");
  if (slow !== before.slow_mode_seconds) changes.push(slow ? `Slow mode: one message in ${duration(slow)}` : "Slow mode is off");
  return changes.length ? changes : ["The room was changed"];
}
