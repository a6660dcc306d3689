// A small chat server as it is written by hand: Node's http, ws and better-sqlite3, and one commit, synced, for each
// message. It knows as much of the contract as `chatapi bench rest-send` and `ws-send` ask a server for, and checks what
// any server has to: the key, the member, the content, and that a client_message_id comes once.
// `node rival.mjs DATABASE MASTER_KEY` prints its address.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import Database from "better-sqlite3";
import { WebSocketServer } from "ws";

const [file, masterKey] = process.argv.slice(2);
const MAX_BODY_BYTES = 256 * 1024;
const MAX_CONTENT_BYTES = 16 * 1024;

const database = new Database(file);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
database.exec(`CREATE TABLE messages (
  message_id TEXT NOT NULL, room_id TEXT NOT NULL, seq INTEGER NOT NULL, sender_id TEXT NOT NULL, content TEXT NOT NULL,
  client_message_id TEXT, created_at TEXT NOT NULL, PRIMARY KEY (room_id, seq), UNIQUE (room_id, sender_id, client_message_id)
) STRICT`);
const insert = database.prepare("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)");
const select = database.prepare("SELECT * FROM messages WHERE room_id = ? AND seq > ? ORDER BY seq LIMIT ?");

const rooms = new Map(); // room_id → { key, members, lastSeq, sockets }
const keys = new Map(); // API key → tenant_id

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function makeId(prefix) {
  return `${prefix}_${randomBytes(12).toString("hex")}`;
}

function accessRoom(roomId, caller) {
  const room = rooms.get(roomId);
  if (!room || room.key !== caller.key || !room.members.has(caller.userId)) throw new Refusal(404, "Room not found");
  return room;
}

/** On return the message is stored; every member's sockets have it. */
function sendMessage(roomId, caller, { content, client_message_id = null }) {
  const room = accessRoom(roomId, caller);
  if (typeof content !== "string" || !content || Buffer.byteLength(content) > MAX_CONTENT_BYTES) throw new Refusal(400, "content");
  const message = {
    message_id: makeId("msg"), room_id: roomId, seq: room.lastSeq + 1, sender_id: caller.userId, content,
    client_message_id, created_at: new Date().toISOString(),
  };
  insert.run(message.message_id, roomId, message.seq, caller.userId, content, client_message_id, message.created_at);
  room.lastSeq = message.seq;
  if (room.sockets.size) {
    const frame = JSON.stringify({ type: "message", ...message });
    for (const socket of room.sockets) socket.send(frame);
  }
  return message;
}

function readCaller(headers) {
  const caller = { key: headers["x-api-key"], userId: headers["x-user-id"] };
  if (!keys.has(caller.key) || !caller.userId) throw new Refusal(401, "X-API-Key and X-User-Id are required");
  return caller;
}

function answer(method, url, headers, body) {
  const [, noun, id, more] = url.pathname.split("/");
  if (noun === "admin") {
    if (headers["x-master-key"] !== masterKey) throw new Refusal(401, "X-Master-Key is required");
    if (method === "DELETE") return [204];
    const tenant = { tenant_id: makeId("ten"), api_key: makeId("key") };
    keys.set(tenant.api_key, tenant.tenant_id);
    return [201, tenant];
  }
  const caller = readCaller(headers);
  if (noun !== "rooms") throw new Refusal(404, "Route not found");
  if (method === "POST" && !id) {
    const room = { key: caller.key, members: new Set(body.members), lastSeq: 0, sockets: new Set() };
    const roomId = makeId("room");
    rooms.set(roomId, room);
    return [201, { room_id: roomId }];
  }
  if (more !== "messages") throw new Refusal(404, "Route not found");
  if (method === "POST") return [201, sendMessage(id, caller, body)];
  accessRoom(id, caller);
  const bounds = url.searchParams;
  return [200, { messages: select.all(id, Number(bounds.get("after_seq")), Number(bounds.get("limit"))) }];
}

function respond(request, response, text) {
  let status, data;
  try {
    const body = text ? JSON.parse(text) : null;
    [status, data] = answer(request.method, new URL(request.url, "http://rival"), request.headers, body);
  } catch (error) {
    [status, data] = [error.status ?? (error instanceof SyntaxError ? 400 : 500), { message: error.message }];
  }
  const json = status === 204 ? "" : JSON.stringify({ data });
  response.writeHead(status, { "Content-Type": "application/json; charset=utf-8", "Content-Length": Buffer.byteLength(json) });
  response.end(json);
}

const server = createServer((request, response) => {
  const chunks = [];
  let size = 0;
  request.on("data", (chunk) => (size += chunk.length) > MAX_BODY_BYTES ? request.destroy() : chunks.push(chunk));
  request.on("end", () => respond(request, response, Buffer.concat(chunks).toString()));
});

new WebSocketServer({ server, maxPayload: MAX_BODY_BYTES }).on("connection", (socket, request) => {
  let caller;
  try {
    caller = readCaller(request.headers);
  } catch {
    return socket.close(1008);
  }
  const joined = [...rooms.values()].filter((room) => room.key === caller.key && room.members.has(caller.userId));
  for (const room of joined) room.sockets.add(socket);
  socket.on("close", () => joined.forEach((room) => room.sockets.delete(socket)));
  socket.on("message", (data) => {
    try {
      const frame = JSON.parse(data.toString());
      const { message_id, room_id, seq, client_message_id } = sendMessage(frame.room_id, caller, frame);
      socket.send(JSON.stringify({ type: "message.sent", message_id, room_id, seq, client_message_id }));
    } catch (error) {
      socket.send(JSON.stringify({ type: "error", code: error.status ?? 500, message: error.message }));
    }
  });
  socket.send(JSON.stringify({ type: "ready", user_id: caller.userId }));
  socket.send(JSON.stringify({ type: "sync.complete" }));
});

server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
