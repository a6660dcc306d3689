/** Streams that tests write piece by piece, and follow. */
import assert from "node:assert/strict";

/** Gives the pieces that a test puts into it; null ends it. */
export class Source {
  #pieces = [];
  #wake = () => {};
  /** @type {AbortSignal | undefined} */ signal;

  put(...pieces) {
    this.#pieces.push(...pieces);
    this.#wake();
  }

  /** As a function of the signal, which is how a source is told to end in the middle of something. */
  read = async function* (signal) {
    this.signal = signal;
    for (;;) {
      while (!this.#pieces.length) await new Promise((resolve) => { this.#wake = resolve; });
      const piece = this.#pieces.shift();
      if (piece === null) return;
      yield piece;
    }
  }.bind(this);
}

/** A stream that is being written, by a client over REST or by a connection. */
export function write(writer, room, message, options) {
  const source = new Source();
  const done = writer.stream(room, source.read, message, options);
  done.catch(() => {}); // it is looked at later
  return { source, done };
}

/** The newest message of a room, as it grows. */
export async function follow({ connection, inbox }, room, count = 1) {
  return connection.follow((await inbox.untilCount(count, (event) => event.type === "message" && event.room_id === room)).at(-1));
}

export async function grownTo(growing, text) {
  for await (const shown of growing.text()) {
    assert.ok(text.startsWith(shown), shown);
    if (shown === text) return;
  }
  assert.fail(`it ended with ${JSON.stringify(growing.message)}`);
}

/** What it holds, and how it has ended: a newer server adds to both. */
export const show = ({ content, stream }) => [content, stream.state];

export const finished = ({ inbox }, count) => inbox.untilCount(count, (event) => event.type === "message.finished").then((events) => events.at(-1));
