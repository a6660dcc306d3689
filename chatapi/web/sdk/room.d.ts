/** `<chatapi-room>`: a chat in any page. docs/web-component.md says how to use it. */
import type { ChatAPIError, Connection, Message, Room, State } from "./chatapi.js";

export declare class ChatAPIRoom extends HTMLElement {
  /** The server's address; by default the place that this file came from. */
  server: string;
  /** The id of the room. */
  room: string;
  /** A user token. */
  token: string;
  /** Asked for a token at first, and again when the server refuses the last one. Without it, `token` counts. */
  getToken: (() => string | Promise<string>) | null;
  /** A connection that the page has already, and keeps; without one, that of the element. */
  get connection(): Connection | null;
  set connection(connection: Connection | null);
  /** @internal for the playground */
  mount(pane: object): void;
}

declare global {
  interface HTMLElementTagNameMap { "chatapi-room": ChatAPIRoom }
  interface HTMLElementEventMap {
    "chatapi-open": CustomEvent<Room>;
    "chatapi-message": CustomEvent<Message>;
    "chatapi-unread": CustomEvent<{ count: number }>;
    "chatapi-state": CustomEvent<{ state: State; reason: string }>;
    "chatapi-error": CustomEvent<ChatAPIError | Error>;
    "chatapi-token": CustomEvent<Record<string, never>>;
  }
}
