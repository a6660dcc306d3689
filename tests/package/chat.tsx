// Everything a program takes from the package, in its types.
import { AdminAPI, ChatAPI, ChatAPIError, VERSION, applyEvent, isLogEvent, type Connection, type Message, type Sent } from "chatapi-js";
import { RoomChatTransport, toUIMessages } from "chatapi-js/ai";
import { ChatAPIProvider, useConnection, useMessages, usePresence, useRoom, useTyping, useUnread, type RoomMessage } from "chatapi-js/react";

const chat = new ChatAPI({ url: "http://localhost:8080", token: "t" });
const version: string = VERSION;

export async function talk(roomId: string): Promise<Sent> {
  const connection: Connection = chat.connect();
  connection.on("message", (event) => {
    const seq: number = event.seq;
    if (isLogEvent(event)) console.log(seq, version);
  });
  const { messages }: { messages: Message[] } = await chat.listMessages(roomId);
  const [first] = messages;
  if (first) applyEvent(first, { type: "message.deleted", message_id: first.message_id, room_id: roomId, seq: 2 });
  try {
    return await connection.send(roomId, "Hello");
  } catch (error) {
    if (error instanceof ChatAPIError) console.error(error.code, error.retryAfter);
    throw error;
  }
}

export function Room({ roomId }: { roomId: string | null }) {
  const { messages, send, retry, loadOlder, hasOlder } = useMessages(roomId, { topLevel: true });
  const name: string | null | undefined = useRoom(roomId).room?.name;
  const shown = [usePresence(roomId).online.length, useTyping(roomId).typists.length, useUnread(roomId).count, useConnection().state];
  const row = (message: RoomMessage) => {
    if (message.status === "sent") return <li key={message.key}>{message.seq.toFixed()} {message.content ?? "(deleted)"}</li>;
    return <li key={message.key} onClick={() => retry(message.key)}>{message.content} {message.error?.message}</li>;
  };
  return <ChatAPIProvider client={chat}><h1>{name}</h1>{shown}{messages.map(row)}{hasOlder && <a onClick={loadOlder}>older</a>}<a onClick={() => send("Hi")} /></ChatAPIProvider>;
}

export const transport = new RoomChatTransport({ client: chat, agent: "robot" });
export const shown = toUIMessages([], { userId: "alice" });
export const admin = new AdminAPI({ url: "http://localhost:8080", masterKey: "m" });
