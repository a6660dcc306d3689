/**
 * A pane asks what is around it for these things, and tells it of others.
 * @module
 */

/** @typedef {import("../chatapi.js").Room} Room */
/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").ServerEvent} ServerEvent */
/** @typedef {import("../chatapi.js").Standing} Standing */

/**
 * @typedef {object} Surroundings
 * @property {import("./people.js").People} people
 * @property {import("./reasons.js").Words} words
 * @property {boolean} isAtPlay several users share the page, and whoever looks wants to see how it works: numbers, cuts, recoveries
 * @property {(entry: {direction: "in" | "out", frame: any}) => void} frame
 * @property {(event: ServerEvent) => void} happened an event that others on the page may show
 * @property {(userId: string) => "a" | "b" | undefined} slotOf the colours of a user
 * @property {(roomId: string) => Standing | undefined} standing how this user stands in a room, as far as the page knows
 * @property {(room: Room) => string} nameOf
 * @property {((roomId: string, userId: string) => Promise<void>) | null} invite lets another user add this one
 * @property {(condition: import("./link.js").Condition) => void} condition of the connection
 * @property {(room: Room) => {reason: string, remedy?: import("./permission.js").Remedy} | null} blockIn one of the two users of a dm has blocked the other
 * @property {() => boolean} isBanned from the tenant, as far as the page knows
 * @property {() => void} refused the server refuses or accepts other than expected: others may have changed what this user may do
 * @property {() => void} reported a message was reported
 * @property {() => void} readmitted the user's ban from the tenant has ended
 * @property {() => (Node | string)[] | null} hint what a user may do in a room without messages
 * @property {(() => void) | null} details shows more of the open room
 * @property {(message: Message) => {label: string, hint: string, text: string}[]} snippets calls that make such a message, to be copied
 * @property {(text: string) => void} say shows a line for a few seconds
 * @property {(error: any) => void} complain
 * @property {(count: number) => void} unread
 * @property {(opened: {room: Room} | {error: any}) => void} opened the room is shown, or cannot be
 */

export {};
