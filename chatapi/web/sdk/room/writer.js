/**
 * The actions of a user in the open room: to send, edit, react and pin. A refusal tells what stands in the way.
 * @module
 */
import { describe } from "./dom.js";

/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("./message.js").Draft} Draft */
/** @typedef {import("./pane.js").Pane} Pane */

export class Writer {
  /** @param {Pane} pane */
  constructor(pane) { this.pane = pane; }

  /** @param {string} content @param {string | null} replyTo @returns {Draft} */
  draft(content, replyTo) {
    const { thread, addressees } = this.pane;
    const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
    return { content, reply_to: replyTo, client_message_id: id, ...(thread.root && { thread_id: thread.root.message_id }), ...addressees.mentionsOf(content) };
  }

  /** @param {string} roomId @param {Draft} draft */
  async send(roomId, { error: _earlier, ...draft }) {
    const { connection, permission, timeline, thread } = this.pane;
    const place = () => draft.thread_id && thread.root?.message_id === draft.thread_id ? thread.timeline : timeline;
    place().putDraft(draft);
    try {
      const { reply_to: replyTo, ...sent } = draft;
      await connection.send(roomId, { ...sent, ...(replyTo && { reply_to: replyTo }) });
    } catch (/** @type {any} */ error) {
      if (error.code === "CLOSED" || roomId !== this.pane.present().room_id) return;
      permission.refused(error);
      if (error.status === 403) this.pane.around.refused();
      place().putDraft({ ...draft, error: describe(error) });
    }
  }

  /** @param {Message} message @param {string} content */
  edit(message, content) {
    const { mentions = [], mention_room: everybody = false } = this.pane.addressees.mentionsOf(content, message);
    const { room_id: roomId, message_id: messageId, meta } = message;
    return this.#try(() => this.pane.connection.edit(roomId, messageId, { content, meta, mentions, mention_room: everybody }));
  }

  /** @param {Message} message */
  remove({ room_id: roomId, message_id: messageId }) { return this.#try(() => this.pane.connection.delete(roomId, messageId)); }

  /** @param {Message} message an open stream, whose sender decides */
  async stop({ room_id: roomId, message_id: messageId }) {
    const { connection, growth } = this.pane;
    await this.#try(() => connection.cancel(roomId, messageId).then(() => growth.stopAsked(messageId)));
  }

  /** @param {Message} message @param {boolean} pinned */
  pin({ room_id: roomId, message_id: messageId }, pinned) {
    const { client } = this.pane;
    return this.#try(() => pinned ? client.pinMessage(roomId, messageId) : client.unpinMessage(roomId, messageId));
  }

  /** @param {Message} message @param {string} reason */
  async report({ room_id: roomId, message_id: messageId }, reason) {
    const { client, around } = this.pane;
    const report = await this.#try(() => client.reportMessage(roomId, messageId, reason));
    if (report) around.reported();
  }

  /** @param {Message} message @param {string} emoji @param {boolean} active */
  async react({ room_id: roomId, message_id: messageId }, emoji, active) {
    if (active && this.isHindered("slow", "posting")) return;
    const { connection, timeline, user } = this.pane;
    const event = await this.#try(() => active ? connection.react(roomId, messageId, emoji) : connection.unreact(roomId, messageId, emoji));
    const known = timeline.get(messageId);
    const own = event && active && event.seq === undefined && known?.reactions?.find((reaction) => reaction.emoji === emoji);
    if (!known || !own || own.user_ids.includes(user)) return;
    // It was this user's already, beyond the first that the message names.
    const reactions = known.reactions?.map((reaction) => reaction === own ? { ...own, user_ids: [...own.user_ids, user] } : reaction);
    timeline.putReactions({ ...known, reactions });
  }

  /** Says so when something keeps the user from writing. @param {...string} allowed obstacles that do not matter */
  isHindered(...allowed) {
    const { obstacle } = this.pane.permission;
    if (!obstacle || allowed.includes(obstacle.kind)) return false;
    this.pane.around.say(obstacle.kind === "slow" ? "Slow mode: wait until you may write again." : obstacle.reason);
    return true;
  }

  /** @param {() => Promise<any>} call */
  async #try(call) {
    try {
      return await call();
    } catch (/** @type {any} */ error) {
      this.pane.permission.refused(error);
      if (error.status === 403) this.pane.around.refused();
      this.pane.complain(error);
      return undefined;
    }
  }
}
