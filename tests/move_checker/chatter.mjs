/**
 * Clients of the JavaScript SDK. The one argument is JSON: {url, key, rooms, users}; a user's name says what they do: js-rest, js-stream,
 * js-websocket, js-sse, js-poll. Each line of the output is a record of the journal. The end of the input stops the senders; those who
 * listen go on until the process is killed. SIGUSR2 tells the last frames of each connection.
 */
import WebSocket from "../js/node_modules/ws/wrapper.mjs";
import { ChatAPI } from "../../chatapi/web/sdk/chatapi.js";

const PACE_MS = 20;
const PIECES = 40;
const FRAMES = 12; // kept
const { url, key, rooms, users } = JSON.parse(process.argv[2]);
let isOver = false;
process.stdin.on("end", () => { isOver = true; }).resume();

const note = (who, kind, more = {}) => process.stdout.write(`${JSON.stringify({ who, kind, ...more })}\n`);
const rest = () => new Promise((resolve) => { setTimeout(resolve, Math.random() * PACE_MS); });
const pick = () => rooms[Math.floor(Math.random() * rooms.length)];

/** So that a client that does not carry on can say what it waits for. */
function trace(who, connection) {
  const frames = [];
  connection.on("state", (state) => frames.push(state));
  connection.on("error", () => {}); // acks that were refused while the tenant was held: later ones count for them
  connection.on("frame", (event) => frames.push(event) > FRAMES && frames.shift());
  process.on("SIGUSR2", () => note(who, "trace", { text: JSON.stringify(frames) }));
}

async function sendByRest(who, client) {
  for (let number = 0; !isOver; number += 1) {
    const [room, text] = [pick(), `${who} ${number}`];
    for (let sent; !sent;) {
      try {
        sent = await client.sendMessage(room, { content: text, client_message_id: text });
        note(who, "confirmed", { room, seq: sent.seq, text });
      } catch (error) {
        if (error.code !== "NETWORK_ERROR" && error.status !== 503 && error.status !== 429) throw error;
        note(who, "repeated");
      }
    }
    await rest();
  }
}

async function chat(who, client, transport) {
  const connection = client.connect({ transports: [transport] });
  trace(who, connection);
  for (const type of ["message", "message.finished"]) connection.on(type, (event) => note(who, "heard", { room: event.room_id, seq: event.seq }));
  for (let number = 0; !isOver; number += 1) {
    const [room, text] = [pick(), `${who} ${number}`];
    const sent = await connection.send(room, { content: text, client_message_id: text });
    note(who, "confirmed", { room, seq: sent.seq, text });
    await rest();
  }
}

async function writeStreams(who, client) {
  const connection = client.connect({ transports: ["websocket"] });
  trace(who, connection);
  for (let number = 0; !isOver; number += 1) {
    const [room, name, pieces] = [pick(), `${who} ${number}`, []];
    async function* write() {
      for (let piece = 0; piece < PIECES; piece += 1) {
        pieces.push(`${name}: ${piece} é. `);
        yield pieces.at(-1);
        await rest();
      }
    }
    const message = await connection.stream(room, write(), { client_message_id: name });
    if (message.content !== pieces.join("")) throw new Error(`${name} reads ${message.content}`);
    note(who, "streamed", { room, message_id: message.message_id, text: message.content });
  }
}

for (const who of users) {
  const client = new ChatAPI({ url, apiKey: key, userId: who, WebSocket });
  const what = who.slice("js-".length);
  const work = what === "rest" ? sendByRest(who, client) : what === "stream" ? writeStreams(who, client) : chat(who, client, what);
  work.catch((error) => note(who, "error", { text: `${error.stack} ${error.code} ${error.status}` }));
}
