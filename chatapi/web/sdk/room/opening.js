/**
 * Reads the part of a room that is shown when it opens.
 * @module
 */
import { PRESENCE_UP_TO, RECEIPTS_UP_TO } from "./roster.js";

/** @typedef {import("../chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("../chatapi.js").Member} Member */
/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").Receipt} Receipt */
/** @typedef {import("../chatapi.js").Room} Room */
/** @typedef {{isMember: boolean, members: Member[], count: number, online: string[], receipts: Receipt[], page: {messages: Message[], has_more: boolean}}} Opened */
/** @typedef {{findMembership: () => Promise<boolean>, follow: () => Promise<unknown>, isCurrent: () => boolean}} Ways to find out more, and to follow a channel without being a member */

export const PAGE = 30; // messages

/** Null if the pane has gone on to another room meanwhile. @param {ChatAPI} client @param {Room} room @param {string} user @param {Ways} ways @returns {Promise<Opened | null>} */
export async function readRoom(client, room, user, { findMembership, follow, isCurrent }) {
  const roomId = room.room_id;
  const { members, has_more: hasMore } = await client.listMembers(roomId, { limit: RECEIPTS_UP_TO });
  const isListed = members.some((one) => one.user_id === user);
  const count = hasMore ? Math.max(room.member_count, members.length + 1) : members.length;
  /** @param {boolean} isMember @returns {Promise<Opened | null>} */
  const read = async (isMember) => {
    if (!isCurrent()) return null;
    if (!isMember && room.type === "channel") await follow();
    const [page, { online }, { receipts }] = await Promise.all([
      client.listMessages(roomId, { limit: PAGE }),
      isMember && count <= PRESENCE_UP_TO ? client.getPresence(roomId) : { online: [] },
      isMember && count <= RECEIPTS_UP_TO ? client.listReceipts(roomId, { limit: RECEIPTS_UP_TO }) : { receipts: [] },
    ]);
    return isCurrent() ? { isMember, members, count, online, receipts, page } : null;
  };
  // A list that is cut off may leave the user out. All who can read a private room are in it.
  if (!isListed && !(hasMore && (room.type !== "channel" || await findMembership()))) return read(false);
  try {
    return await read(true);
  } catch (/** @type {any} */ error) {
    if (room.type !== "channel" || error.status !== 403) throw error;
    return read(false); // they were removed meanwhile: a channel is there for all
  }
}
