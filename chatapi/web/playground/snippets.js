/**
 * A frame or message as a call that can be pasted: curl, Python, JavaScript. The tenant's key is not in it:
 * the snippets read it from the environment variable KEY.
 * @module
 */

/** @typedef {import("/sdk/chatapi.js").ServerEvent} ServerEvent */
/** @typedef {{method: string, route: string, body?: unknown}} Call */
/** @typedef {{call: Call, frame?: unknown}} Deed a REST call; `frame` for what only a WebSocket takes, where the call is the nearest one */
/** @typedef {{label: string, hint: string, text: string}} Snippet */

const enc = (/** @type {unknown} */ value) => encodeURIComponent(String(value)).replaceAll("'", "%27");
const room = (/** @type {ServerEvent} */ { room_id: roomId }) => `/rooms/${enc(roomId)}`;
const message = (/** @type {ServerEvent} */ frame) => `${room(frame)}/messages/${enc(frame.message_id)}`;
const get = (/** @type {string} */ route) => ({ method: "GET", route });
const post = (/** @type {string} */ route, /** @type {unknown} */ body) => ({ method: "POST", route, body });
/** A message without the `client_message_id` that would make it the same message again. The `stream` of a frame opens one; that of a message tells only how it was written. @param {ServerEvent} frame */
const draft = ({ content, meta, reply_to: replyTo, ...more }) => ({ content, ...(more.stream === true && { stream: true }), ...(meta && { meta }), ...(replyTo && { reply_to: replyTo }), ...(more.thread_id && { thread_id: more.thread_id }), ...mentioned(more) });
/** Whom it mentions. @param {any} frame */
const mentioned = ({ mentions, mention_room: everybody }) => ({ ...(mentions && { mentions }), ...(everybody && { mention_room: everybody }) });

/** @type {Record<string, (frame: ServerEvent) => Call>} */
const SENT = {
  "send_message": (frame) => post(`${room(frame)}/messages`, draft(frame)),
  "message.edit": (frame) => ({ method: "PUT", route: message(frame), body: { content: frame.content, ...(frame.meta && { meta: frame.meta }), ...mentioned(frame) } }),
  "message.delete": (frame) => ({ method: "DELETE", route: message(frame) }),
  "message.append": (frame) => post(`${message(frame)}/append`, { index: frame.index, text: frame.text }),
  "message.finish": ({ type: _type, room_id: roomId, message_id: messageId, request_id: _requestId, ...end }) =>
    post(`${message({ type: "message.finish", room_id: roomId, message_id: messageId })}/finish`, end),
  "message.cancel": (frame) => post(`${message(frame)}/cancel`, {}),
  "reaction.add": (frame) => ({ method: "PUT", route: `${message(frame)}/reactions/${enc(frame.emoji)}` }),
  "reaction.remove": (frame) => ({ method: "DELETE", route: `${message(frame)}/reactions/${enc(frame.emoji)}` }),
  "ack": (frame) => post("/acks", frame.rooms ? { rooms: frame.rooms } : { room_id: frame.room_id, seq: frame.seq }),
  "read": (frame) => post(`${room(frame)}/read`, { seq: frame.seq }),
  "notification.ack": (frame) => post(`/notifications/${enc(frame.notification_id)}/ack`, {}),
};

/** @type {Record<string, (frame: ServerEvent) => Call>} the nearest that REST has */
const ONLY_OVER_WEBSOCKET = {
  "typing.start": (frame) => get(`${room(frame)}/presence`),
  "typing.stop": (frame) => get(`${room(frame)}/presence`),
  "subscribe": (frame) => get(`${room(frame)}/events`),
  "unsubscribe": (frame) => get(room(frame)),
  "sync": (frame) => {
    const rooms = Object.entries(frame.rooms ?? {});
    return rooms.length === 1 ? get(`/rooms/${enc(rooms[0][0])}/events?after_seq=${enc(rooms[0][1])}`) : get("/rooms");
  },
};

/** @type {Record<string, (frame: ServerEvent) => Call>} where the same can be asked for */
const RECEIVED = {
  "ready": () => get("/rooms"),
  "ready.rooms": () => get("/rooms"),
  "sync.complete": () => get("/rooms"),
  "sync.reset": () => get("/rooms"),
  "sync.gap": (frame) => get(`${room(frame)}/events?after_seq=${frame.from_seq - 1}`),
  "message": (frame) => get(message(frame)),
  "message.sent": (frame) => get(message(frame)),
  "message.edited": (frame) => get(message(frame)),
  "message.finished": (frame) => get(message(frame)),
  "message.appended": () => get("/rooms"),
  "message.delta": (frame) => get(message(frame)),
  "message.state": (frame) => get(message(frame.message)),
  "message.cancel_requested": (frame) => get(message(frame)),
  "message.deleted": (frame) => get(message(frame)),
  "reaction.added": (frame) => get(`${message(frame)}/reactions`),
  "reaction.removed": (frame) => get(`${message(frame)}/reactions`),
  "message.pinned": (frame) => get(`${room(frame)}/pins`),
  "message.unpinned": (frame) => get(`${room(frame)}/pins`),
  "room.created": (frame) => get(room(frame)),
  "room.updated": (frame) => get(room(frame)),
  "room.deleted": () => get("/rooms"),
  "room.me": () => get("/rooms?hidden=true"),
  "member.joined": (frame) => get(`${room(frame)}/members`),
  "member.updated": (frame) => get(`${room(frame)}/members`),
  "member.left": (frame) => get(`${room(frame)}/members`),
  "member.banned": (frame) => get(`${room(frame)}/bans`),
  "member.unbanned": (frame) => get(`${room(frame)}/bans`),
  "ack.received": (frame) => get(`${room(frame)}/receipts`),
  "read.updated": (frame) => get(`${room(frame)}/receipts`),
  "presence.update": () => get("/rooms"),
  "user.updated": (frame) => get(`/users/${enc(frame.user.user_id)}`),
  "typing": (frame) => get(`${room(frame)}/presence`),
  "subscribed": (frame) => get(`${room(frame)}/events?after_seq=${frame.last_seq}`),
  "unsubscribed": (frame) => get(room(frame)),
  "notification": () => get("/notifications"),
};

/** @param {any} frame @param {"in" | "out"} direction @returns {Deed} */
export function deedOf(frame, direction) {
  const nested = frame?.data !== null && typeof frame?.data === "object";
  const flat = nested ? { ...frame.data, type: frame.type } : frame;
  const health = () => get("/health");
  if (direction === "in") return { call: (RECEIVED[flat?.type] ?? health)(flat) };
  const sent = SENT[flat?.type];
  return sent ? { call: sent(flat) } : { call: (ONLY_OVER_WEBSOCKET[flat?.type] ?? health)(flat), frame };
}

/** Writing the same message again. @param {import("/sdk/chatapi.js").Message} written @returns {Deed} */
export function deedOfMessage(written) {
  return { call: post(`${room(/** @type {any} */ (written))}/messages`, draft(/** @type {any} */ (written))) };
}

/** @param {Deed} deed @param {string} user @param {string} [origin] @returns {Snippet[]} */
export function snippetsOf({ call, frame }, user, origin = location.origin) {
  const name = `${call.method} ${call.route.split("?")[0]}`;
  const over = frame === undefined ? name : `WebSocket: ${/** @type {any} */ (frame)?.type ?? "frame"}`;
  return [
    { label: "Copy as curl", hint: name, text: curl(call, user, origin) },
    { label: "Copy as Python", hint: over, text: frame === undefined ? python(call, user, origin) : pythonSocket(frame, user, origin) },
    { label: "Copy as JavaScript", hint: over, text: frame === undefined ? javascript(call, user, origin) : javascriptSocket(frame, user, origin) },
  ];
}

/** Writing the same text again through a pipe, as a program does that has no library. @param {import("/sdk/chatapi.js").Message} written @param {string} user @param {string} [origin] @returns {Snippet} */
export function pipeOf({ room_id: roomId, content, reply_to: replyTo, thread_id: threadId }, user, origin = location.origin) {
  const place = Object.entries({ reply_to: replyTo, thread_id: threadId }).filter(([, id]) => id).map(([name, id]) => `${name}=${enc(id)}`).join("&");
  const url = `${origin}/v1/rooms/${enc(roomId)}/messages/stream${place && `?${place}`}`;
  return {
    label: "Copy as a pipe", hint: "PUT …/messages/stream",
    text: [`printf %s ${quoted(content ?? "")} | curl -sSNT - --globoff ${quoted(url)}`, `-H "X-API-Key: $KEY"`, `-H ${quoted(`X-User-Id: ${user}`)}`].join(" \\\n  "),
  };
}

/* Shells */

/** In single quotes nothing has a meaning but the quote itself. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @param {Call} call @param {string} user @param {string} origin */
function curl({ method, route, body }, user, origin) {
  return [
    `curl -sS${method === "GET" ? "" : ` -X ${method}`} --globoff ${quoted(`${origin}/v1${route}`)}`,
    `-H "X-API-Key: $KEY"`,
    `-H ${quoted(`X-User-Id: ${user}`)}`,
    ...(body === undefined ? [] : [`-H 'Content-Type: application/json'`, `--data-raw ${quoted(JSON.stringify(body))}`]),
  ].join(" \\\n  ");
}

/* Python: the standard library, and `websockets` for a WebSocket */

/** @param {unknown} value @returns {string} */
function literal(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, item]) => `${literal(key)}: ${literal(item)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** @param {Call} call @param {string} user @param {string} origin */
function python({ method, route, body }, user, origin) {
  return `import json, os, urllib.request

request = urllib.request.Request(
    ${literal(`${origin}/v1${route}`)},
    method=${literal(method)},
    headers={"X-API-Key": os.environ["KEY"], "X-User-Id": ${literal(user)}${body === undefined ? "" : ', "Content-Type": "application/json"'}},${body === undefined ? "" : `
    data=json.dumps(${literal(body)}).encode(),`}
)
with urllib.request.urlopen(request) as answer:
    print(answer.status, answer.read().decode())
`;
}

/** @param {unknown} frame @param {string} user @param {string} origin */
function pythonSocket(frame, user, origin) {
  return `import json, os
from websockets.sync.client import connect  # pip install websockets

headers = {"X-API-Key": os.environ["KEY"], "X-User-Id": ${literal(user)}}
with connect(${literal(`${origin.replace(/^http/, "ws")}/v1/ws`)}, additional_headers=headers) as socket:
    socket.send(${typeof frame === "string" ? literal(frame) : `json.dumps(${literal(frame)})`})
    for answer in socket:
        print(answer)
`;
}

/* JavaScript, for Node */

/** @param {Call} call @param {string} user @param {string} origin */
function javascript({ method, route, body }, user, origin) {
  return `const answer = await fetch(${JSON.stringify(`${origin}/v1${route}`)}, {
  method: ${JSON.stringify(method)},
  headers: { "X-API-Key": process.env.KEY, "X-User-Id": ${JSON.stringify(user)}${body === undefined ? "" : ', "Content-Type": "application/json"'} },${body === undefined ? "" : `
  body: JSON.stringify(${JSON.stringify(body)}),`}
});
console.log(answer.status, await answer.text());
`;
}

/** @param {unknown} frame @param {string} user @param {string} origin */
function javascriptSocket(frame, user, origin) {
  return `// Node 22 or newer, which has a WebSocket
const headers = { "X-API-Key": process.env.KEY, "X-User-Id": ${JSON.stringify(user)}, "Content-Type": "application/json" };
const ticket = await (await fetch(${JSON.stringify(`${origin}/v1/ws/token`)}, { method: "POST", headers, body: "{}" })).json();
const socket = new WebSocket(${JSON.stringify(`${origin.replace(/^http/, "ws")}/v1/ws?token=`)} + encodeURIComponent(ticket.data.token));
socket.onmessage = ({ data }) => console.log(data);
socket.onopen = () => socket.send(${typeof frame === "string" ? JSON.stringify(frame) : `JSON.stringify(${JSON.stringify(frame)})`});
`;
}
