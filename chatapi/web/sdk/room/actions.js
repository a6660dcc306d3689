/**
 * The actions of a user on a message.
 * @module
 */
import { copy } from "./copy.js";

/** @typedef {import("./message.js").Actions} Actions */

/** @param {import("./pane.js").Pane} pane @param {Pick<Actions, "retry" | "thread" | "older">} own of the pane @returns {Actions} */
export function actionsOf(pane, own) {
  const { writer, around } = pane;
  return {
    ...own,
    reply: (message) => { if (!writer.isHindered()) pane.composer.reply(message); },
    edit: (message) => { if (!writer.isHindered("slow")) pane.composer.edit(message); },
    react: (message, emoji, active) => writer.react(message, emoji, active),
    remove: (message) => writer.remove(message),
    pin: (message, pinned) => writer.pin(message, pinned),
    stop: (message) => void writer.stop(message),
    follow: (message) => pane.growth.follow(message),
    report: (message, reason) => writer.report(message, reason),
    reveal: (messageId) => pane.reveal(messageId),
    hint: () => around.hint(),
    snippets: around.snippets,
    copy: (text, what) => void copy(text, what, around.say, pane.element),
  };
}
