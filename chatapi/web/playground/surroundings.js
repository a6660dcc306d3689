/**
 * A pane asks the page around it for these things, and tells it of others.
 * @module
 */

/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").ServerEvent} ServerEvent */
/** @typedef {import("/sdk/chatapi.js").Standing} Standing */

/**
 * @typedef {object} Surroundings
 * @property {(entry: {direction: "in" | "out", frame: any}) => void} frame
 * @property {(event: ServerEvent) => void} happened an event that rooms, members or notifications may show
 * @property {(userId: string) => "a" | "b" | undefined} slotOf
 * @property {(roomId: string) => Standing | undefined} standing how this user stands in a room, as far as the list of rooms is loaded
 * @property {(room: Room) => string} nameOf
 * @property {(roomId: string, userId: string) => Promise<void>} invite lets the other user add this one
 * @property {(condition: import("./link.js").Condition) => void} condition of the connection
 * @property {(room: Room) => {reason: string, remedy?: import("./permission.js").Remedy} | null} blockIn one of the two users of a dm has blocked the other
 * @property {() => boolean} isBanned from the tenant, as far as the page knows
 * @property {() => void} refused the server refuses or accepts other than expected: others may have changed what this user may do
 * @property {() => void} reported a message was reported
 * @property {() => void} readmitted the user's ban from the tenant has ended
 * @property {() => (Node | string)[] | null} hint what a user may do in a room without messages
 * @property {() => void} details shows more of the open room
 */

export {};
