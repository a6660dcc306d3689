// What a server renders of a page with all hooks: there is no window, no WebSocket and no connection.
import { createElement as h, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { ChatAPI } from "chatapi-js";
import { ChatAPIProvider, useConnection, useMessages, usePresence, useRoom, useTyping, useUnread } from "chatapi-js/react";

globalThis.fetch = () => { throw new Error("a server that renders asks nothing"); };
const chat = new ChatAPI({ url: "http://chat.invalid", token: "t" });

function Room({ roomId }) {
  const { messages, isLoading } = useMessages(roomId);
  const shown = [useRoom(roomId).room, usePresence(roomId).online, useTyping(roomId).typists, useUnread(roomId).count, useConnection().state];
  return h("p", null, JSON.stringify([messages, isLoading, ...shown]));
}

const page = h(StrictMode, null, h(ChatAPIProvider, { client: chat }, h(Room, { roomId: "room_1" }), h(Room, { roomId: null })));
process.stdout.write(renderToString(page).replaceAll("&quot;", '"')); // and then it ends: nothing is left that waits
