/**
 * The playground: two users of one tenant, their rooms, the frames that pass, and the REST API beside them.
 * @module
 */
import { ChatAPI } from "/sdk/chatapi.js";
import { avatar, describe, h, toast } from "./dom.js";
import { Frames } from "./frames.js";
import { Pane } from "./pane.js";
import { Rooms } from "./rooms.js";

/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {{apiKey: string, a: string, b: string, dev?: boolean}} Credentials */

/** Of this tab only, and gone with it. The REST page reads it too. */
const CREDENTIALS = "chatapi-playground";
const ROOM = "chatapi-playground-room";
const PHONE = matchMedia("(max-width: 760px)");

const byId = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const frames = new Frames(byId("frames"));
/** @type {{panes: Pane[], rooms: Rooms} | null} */
let session = null;

/* Credentials */

/** What the server hands out under `serve --dev`. @returns {Promise<Credentials | null>} */
async function developerCredentials() {
  try {
    const { dev } = await (await fetch("/playground/config.json")).json();
    return dev && { apiKey: dev.api_key, a: dev.users[0], b: dev.users[1], dev: true };
  } catch {
    return null;
  }
}

/** @returns {Credentials | null} */
function keptCredentials() {
  return JSON.parse(sessionStorage.getItem(CREDENTIALS) ?? "null");
}

/** @param {Credentials | null} credentials @param {string} [problem] */
function askForCredentials(credentials, problem) {
  const dialog = byId("setup");
  const form = dialog.querySelector("form");
  form.apiKey.value = credentials?.apiKey ?? "";
  form.a.value = credentials?.a ?? "alice";
  form.b.value = credentials?.b ?? "bob";
  form.querySelector("[data-cancel]").hidden = !session;
  showProblem(form, problem);
  if (!dialog.open) dialog.showModal();
}

/** @param {HTMLFormElement} form @param {string} [problem] */
function showProblem(form, problem) {
  const line = /** @type {HTMLElement} */ (form.querySelector(".form-error"));
  line.hidden = !problem;
  line.textContent = problem ?? "";
}

function listenToSetup() {
  const dialog = byId("setup");
  const form = dialog.querySelector("form");
  form.addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    const credentials = { apiKey: form.apiKey.value.trim(), a: form.a.value.trim(), b: form.b.value.trim() };
    if (credentials.a === credentials.b) return showProblem(form, "Two different users are needed.");
    await start(credentials);
  });
  form.querySelector("[data-cancel]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("cancel", (/** @type {Event} */ event) => { if (!session) event.preventDefault(); });
  byId("credentials").addEventListener("click", () => askForCredentials(keptCredentials()));
}

/** @param {any} error */
function problemOf(error) {
  if (error.status === 401) return "The server refused this key (401). Check that it is complete and not revoked.";
  if (error.status === 429) return "Too many wrong keys from this address (429). Wait a minute.";
  if (error.status === 0) return "The server could not be reached.";
  return describe(error);
}

/* The session */

/** @param {Credentials} credentials */
async function start(credentials) {
  const users = { a: credentials.a, b: credentials.b };
  try {
    const base = { url: location.origin, apiKey: credentials.apiKey };
    const clients = { a: new ChatAPI({ ...base, userId: users.a }), b: new ChatAPI({ ...base, userId: users.b }) };
    await Promise.all([clients.a.listRooms({ limit: 1 }), clients.b.listRooms({ limit: 1 })]);
    stop();
    sessionStorage.setItem(CREDENTIALS, JSON.stringify(credentials));
    byId("setup").close();
    await play(clients, users);
  } catch (error) {
    askForCredentials(credentials, problemOf(error));
  }
}

function stop() {
  for (const pane of session?.panes ?? []) pane.close();
  session?.rooms.stop();
  session = null;
  byId("rest").replaceChildren();
}

/** @param {Record<"a" | "b", ChatAPI>} clients @param {Record<"a" | "b", string>} users */
async function play(clients, users) {
  const rooms = new Rooms(byId("rooms"), byId("new-room"), { clients, users, open: (room) => open(room) });
  const slots = /** @type {const} */ (["a", "b"]);
  const panes = slots.map((slot) => new Pane(clients[slot], users[slot], slot, {
    frame: (entry) => frames.add(entry),
    roomsChanged: () => rooms.refreshSoon(),
    slotOf: (userId) => slots.find((one) => users[one] === userId),
    invite: (roomId, userId) => clients[slot === "a" ? "b" : "a"].addMember(roomId, userId).then(() => open(/** @type {Room} */ (rooms.get(roomId)))),
    ended: (error) => { stop(); askForCredentials(keptCredentials(), problemOf(error)); },
  }));
  session = { panes, rooms };
  frames.setUsers(users.a, users.b);
  byId("panes").replaceChildren(...panes.map((pane) => pane.element));
  nameViews(users);
  panes.forEach(followAttention);
  showTab(document.body.dataset.tab ?? "chat");
  await rooms.refresh();
  const kept = rooms.get(sessionStorage.getItem(ROOM) ?? "");
  open(kept ?? await rooms.openDirect());
  rooms.refreshSoon();
}

/** @param {Room} room */
function open(room) {
  if (!session) return;
  sessionStorage.setItem(ROOM, room.room_id);
  session.rooms.select(room.room_id);
  for (const pane of session.panes) void pane.open(room);
  if (PHONE.matches && document.body.dataset.view === "rooms") showView("a");
}

/**
 * A user reads what is in front of somebody: where the pointer or the focus is, or, on a phone, the pane that is shown.
 * @param {Pane} pane
 */
function followAttention(pane) {
  const look = () => {
    const shown = PHONE.matches ? document.body.dataset.view === pane.slot : pane.element.matches(":hover, :focus-within");
    pane.attend(shown && document.visibilityState === "visible");
  };
  for (const event of ["pointerenter", "pointerleave", "focusin", "focusout"]) pane.element.addEventListener(event, () => setTimeout(look));
  pane.element.addEventListener("view", look);
  document.addEventListener("visibilitychange", look);
  look();
}

/* Tabs and views */

/** @param {string} tab */
function showTab(tab) {
  document.body.dataset.tab = tab;
  for (const button of document.querySelectorAll(".tabs button")) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.tab === tab));
  if (tab === "rest" && !byId("rest").childElementCount) byId("rest").append(h("iframe", { src: "/playground/rest.html", title: "REST API" }));
  if (PHONE.matches && tab === "rest") document.body.dataset.view = "a";
}

/** @param {string} view */
function showView(view) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll(".views button")) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.view === view));
  for (const pane of session?.panes ?? []) pane.element.dispatchEvent(new Event("view"));
}

/** @param {Record<"a" | "b", string>} users */
function nameViews(users) {
  for (const slot of /** @type {const} */ (["a", "b"])) {
    document.querySelector(`.views [data-view=${slot}]`)?.replaceChildren(avatar(users[slot], slot), users[slot]);
  }
}

for (const button of document.querySelectorAll(".tabs button")) button.addEventListener("click", () => showTab(/** @type {any} */ (button).dataset.tab));
for (const button of document.querySelectorAll(".views button")) button.addEventListener("click", () => showView(/** @type {any} */ (button).dataset.view));
PHONE.addEventListener("change", () => showView(document.body.dataset.view ?? "a"));
addEventListener("unhandledrejection", (event) => { if (event.reason?.code !== "CLOSED") toast(describe(event.reason)); });

listenToSetup();
const kept = keptCredentials();
const credentials = kept && !kept.dev ? kept : await developerCredentials(); // a new database has a new developer's key
if (credentials) await start(credentials);
else askForCredentials(null);
