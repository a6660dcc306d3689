/** A server that a test plays by hand, for what a real one says only rarely. */
import { createServer } from "node:http";
import WebSocket, { WebSocketServer } from "ws";
import { ChatAPI } from "../../chatapi/web/sdk/chatapi.js";

export const ROOM = { room_id: "room_a", type: "group", last_seq: 0, last_ack: 0, last_read: 0 };

export const message = (seq, room_id = "room_a") => ({ type: "message", room_id, seq, message_id: `msg_${seq}`, sender_id: "bob", content: String(seq) });

export const refusal = (status, code, text = "no") => ({ status, body: { success: false, data: null, error: { code, message: text } } });

/** A JWT of which nobody looks at more than its claims. */
export const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`;

export class ScriptedServer {
  log = 0; // the last seq of the log that is served over REST
  leftAt = 0; // where in it alice leaves
  logAnswers = []; // in place of the log, one after the other
  plainGet = refusal(426, "VALIDATION_ERROR"); // of /ws
  refusals = []; // of handshakes, by status
  dialled = 0;
  posts = 0; // none of which is answered
  #sessions = [];
  #waiting = [];
  #connections = [];

  static async open() {
    const scripted = new ScriptedServer();
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "chatapi.v1" });
    scripted.server = createServer((request, response) => scripted.#serve(request, response));
    scripted.server.on("upgrade", (request, socket, head) => {
      scripted.dialled++;
      const status = scripted.refusals.shift();
      if (status) return socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      sockets.handleUpgrade(request, socket, head, (websocket) => scripted.#accept(new ScriptedSession(websocket)));
    });
    await new Promise((resolve) => { scripted.server.listen(0, "127.0.0.1", resolve); });
    scripted.url = `http://127.0.0.1:${scripted.server.address().port}`;
    return scripted;
  }

  #accept(session) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(session);
    else this.#sessions.push(session);
  }

  /** The next one that is accepted. @returns {Promise<ScriptedSession>} */
  session() {
    const session = this.#sessions.shift();
    return session ? Promise.resolve(session) : new Promise((resolve) => { this.#waiting.push(resolve); });
  }

  #serve(request, response) {
    const { pathname, searchParams } = new URL(request.url, "http://a");
    const answer = ({ status = 200, body, headers }) => {
      response.writeHead(status, { "Content-Type": "application/json", ...headers });
      response.end(JSON.stringify(body));
    };
    if (pathname === "/v1/ws") return answer(this.plainGet);
    if (request.method === "POST") {
      this.posts++;
      return request.socket.destroy();
    }
    const after = Number(searchParams.get("after_seq"));
    const last = Math.min(this.log, after + Number(searchParams.get("limit")));
    const events = [];
    for (let seq = after + 1; seq <= last; seq++) events.push(seq === this.leftAt ? { type: "member.left", room_id: "room_a", seq, user_id: "alice" } : message(seq));
    answer(this.logAnswers.shift() ?? { body: { success: true, data: { events, has_more: last < this.log }, error: null } });
  }

  connect(options = {}, clientOptions = {}) {
    const client = new ChatAPI({ url: this.url, token: "t", WebSocket, retries: 0, ...clientOptions });
    const connection = client.connect({ minDelayMs: 1, maxDelayMs: 5, ...options });
    this.#connections.push(connection);
    connection.told = [];
    connection.states = [];
    connection.on("error", (error) => connection.told.push(error));
    connection.on("state", (change) => connection.states.push(change));
    return connection;
  }

  /** A connection, and its session, to which `ready` was said. */
  async start(options, ready) {
    const connection = this.connect(options);
    const session = await this.session();
    session.sayReady(ready);
    return { connection, session };
  }

  close() {
    for (const connection of this.#connections) connection.close();
    this.server.closeAllConnections();
    this.server.close();
  }
}

class ScriptedSession {
  #frames = [];
  #waiting;

  constructor(websocket) {
    this.websocket = websocket;
    websocket.on("message", (data) => { this.#frames.push(JSON.parse(data)); this.#waiting?.(); });
  }

  say(frame) { this.websocket.send(typeof frame === "string" || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame)); }

  sayReady(fields = {}) {
    this.say({ type: "ready", connection_id: "c", user_id: "alice", epoch: "e1", server_time: "", heartbeat_seconds: 30, rooms: [ROOM], ...fields });
  }

  /** The next frame of this type; others before it are passed over, unless `strict`. */
  async hear(type, { strict = false } = {}) {
    for (;;) {
      while (!this.#frames.length) await new Promise((resolve) => { this.#waiting = resolve; });
      const frame = this.#frames.shift();
      if (frame.type === type) return frame;
      if (strict) throw new Error(`${frame.type} instead of ${type}`);
    }
  }

  /** Answers the `sync`, and returns it. */
  async complete(rooms = {}) {
    const sync = await this.hear("sync");
    this.say({ type: "sync.complete", rooms, request_id: sync.request_id });
    return sync;
  }
}

/** The next events of this type; others are passed over. */
export async function take(connection, type, count) {
  const found = [];
  await new Promise((resolve) => {
    const off = connection.on(type, (event) => { if (found.push(event) === count) { off(); resolve(); } });
  });
  return found;
}
