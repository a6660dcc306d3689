/**
 * The form that makes a new room.
 * @module
 */
import { describe, h } from "/sdk/room/dom.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Room} Room */

export class NewRoom {
  /** @param {HTMLDialogElement} dialog @param {Record<"a" | "b", ChatAPI>} clients @param {Record<"a" | "b", string>} users @param {(room: Room) => unknown} created */
  constructor(dialog, clients, users, created) {
    this.dialog = dialog;
    this.clients = clients;
    this.users = users;
    this.created = created;
    this.form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    this.form.onsubmit = (event) => { event.preventDefault(); void this.#create(); };
    this.form.onchange = () => this.#fit();
    /** @type {HTMLElement} */ (this.form.querySelector("[data-cancel]")).onclick = () => dialog.close();
  }

  ask() {
    this.form.reset();
    this.form.creator.replaceChildren(...Object.values(this.users).map((user) => h("option", { value: user }, user)));
    this.form.members.value = this.users.b;
    this.#complain(null);
    this.#fit();
    this.dialog.showModal();
  }

  #fit() {
    const { creator, members, roomName } = this.form;
    const direct = this.form.type.value === "dm";
    roomName.closest("label").hidden = direct;
    members.placeholder = direct ? "the other user's id" : "user ids, separated by commas";
    members.required = direct;
    const other = Object.values(this.users).find((user) => user !== creator.value) ?? "";
    if ((direct && members.value === "") || Object.values(this.users).includes(members.value)) members.value = other;
  }

  async #create() {
    const { type, creator, members, roomName } = this.form;
    const slot = creator.value === this.users.a ? "a" : "b";
    try {
      const room = await this.clients[slot].createRoom({
        type: type.value,
        members: members.value.split(/[\s,]+/).filter(Boolean),
        ...(type.value !== "dm" && roomName.value.trim() ? { name: roomName.value.trim() } : {}),
      });
      await this.#show(room);
    } catch (/** @type {any} */ error) {
      if (error.code !== "CONFLICT" || !error.details?.room_id) return this.#complain(error);
      await this.#show(await this.clients[slot].getRoom(error.details.room_id)); // this dm exists: go there
    }
  }

  /** @param {Room} room */
  async #show(room) {
    this.dialog.close();
    await this.created(room);
  }

  /** @param {any} error */
  #complain(error) {
    const line = /** @type {HTMLElement} */ (this.form.querySelector(".form-error"));
    line.hidden = !error;
    line.textContent = error ? describe(error) : "";
  }
}
