/**
 * All that can be done with a member: by the room's admins, by each of the two users for themselves, and by the tenant.
 * @module
 */

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Member} Member */
/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("./blocks.js").Blocks} Blocks */
/** @typedef {import("/sdk/room/menu.js").Choice} Choice */
/** @typedef {import("./tenant-bans.js").TenantBans} TenantBans */

const DAY_S = 86_400;
/** For how long a member may be muted. @type {[string, number][]} */
const MUTES = [["5 minutes", 300], ["1 hour", 3600], ["1 day", DAY_S]];

/** In ms; 0 for members who never were muted. @param {Member} member */
export function mutedUntil({ muted_until: until }) { return until ? Date.parse(until) : 0; }

/**
 * @param {Room} room @param {Member} member
 * @param {{asAdmin: (change: (client: ChatAPI) => Promise<unknown>) => unknown, remove: () => unknown}} acting
 * @returns {Choice[]} for groups and channels
 */
export function roomChoices({ room_id: roomId }, member, { asAdmin, remove }) {
  const { user_id: userId, role } = member;
  const other = role === "admin" ? "member" : "admin";
  const mute = (/** @type {number} */ seconds) => asAdmin((client) => client.updateMember(roomId, userId, { muted_for: seconds }));
  const ban = (/** @type {number} */ seconds) => asAdmin((client) => client.banMember(roomId, userId, seconds ? { expires_in: seconds } : {}));
  return [
    ...MUTES.map(([length, seconds]) => ({ label: `Mute ${userId} for ${length}`, run: () => mute(seconds) })),
    ...(mutedUntil(member) > Date.now() ? [{ label: `Unmute ${userId}`, run: () => mute(0) }] : []),
    { label: `Make ${userId} ${other === "admin" ? "an admin" : "a member"}`, run: () => asAdmin((client) => client.updateMember(roomId, userId, { role: other })) },
    { label: `Remove ${userId}`, danger: true, run: remove },
    { label: `Ban ${userId} for 1 day`, danger: true, run: () => ban(DAY_S) },
    { label: `Ban ${userId} for good`, danger: true, run: () => ban(0) },
  ];
}

/**
 * @param {string} userId @param {Record<"a" | "b", string>} users @param {Blocks} blocks @param {TenantBans} bans
 * @param {(change: Promise<unknown>) => unknown} attempt
 * @returns {Choice[]}
 */
export function userChoices(userId, users, blocks, bans, attempt) {
  const own = /** @type {const} */ (["a", "b"]).filter((slot) => users[slot] !== userId).map((slot) => {
    const blocked = blocks.has(slot, userId);
    return { label: `${blocked ? "Unblock" : "Block"} ${userId} as ${users[slot]}`, danger: !blocked, run: () => attempt(blocks.set(slot, userId, !blocked)) };
  });
  const tenant = bans.isBanned(userId) ? [{ label: `Lift the ban of ${userId} from the tenant`, run: () => attempt(bans.lift(userId)) }]
    : [{ label: `Ban ${userId} from the tenant for 1 day`, danger: true, run: () => attempt(bans.ban(userId, DAY_S)) },
      { label: `Ban ${userId} from the tenant for good`, danger: true, run: () => attempt(bans.ban(userId, 0)) }];
  return [...own, ...tenant];
}
