/**
 * The playground: two users of one tenant, their rooms, the frames that pass, and the REST API beside them.
 * @module
 */
import { ChatAPI, isLogEvent } from "/sdk/chatapi.js";
import { findCredentials, keepCredentials, keptCredentials, Setup } from "./credentials.js";
import { describe, h, toast } from "./dom.js";
import { Frames } from "./frames.js";
import { Wire } from "./link.js";
import { Members } from "./members.js";
import { NewRoom } from "./new-room.js";
import { Pane } from "./pane.js";
import { avatar, beginPeople, learnPeople, nameElement } from "./people.js";
import { RawFrame } from "./raw.js";
import { explainError } from "./reasons.js";
import { Rooms } from "./rooms.js";
import { Search } from "./search.js";
import { ServerHealth } from "./server.js";
import { showSide, showSideCount, watchSide } from "./side.js";
import { Topics } from "./topics.js";
import { Trouble } from "./trouble.js";

/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("./credentials.js").Credentials} Credentials */
/** @typedef {Record<"a" | "b", string>} Users */
/** @typedef {{panes: Pane[], rooms: Rooms, members: Members, topics: Topics, room: Room | null}} Session */

const ROOM = "chatapi-playground-room"; // the REST page reads it too
const PHONE = matchMedia("(max-width: 760px)");
const SLOTS = /** @type {const} */ (["a", "b"]);

const byId = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
/** @type {Session | null} */
let session = null;
/** The last that were tried. @type {Credentials | null} */
let tried = null;

const server = new ServerHealth(byId("server"));
const frames = new Frames(byId("frames"));
const raw = new RawFrame(frames.foot, {
  send: (slot, text) => session?.panes.find((pane) => pane.slot === slot)?.link.sendRaw(text) ?? false,
  sent: (slot, frame) => frames.add({ slot, user: tried?.[slot] ?? "", direction: "out", frame, at: new Date() }),
  present: () => session?.panes[0].present() ?? {},
});
const search = new Search();
const setup = new Setup(byId("setup"), { needed: () => !session && !trouble.element.isConnected, given: start });
const trouble = new Trouble(byId("panes"), () => begin());

/* The session */

/** @param {Credentials} credentials */
async function start(credentials) {
  tried = credentials;
  const users = { a: credentials.a, b: credentials.b };
  if (!session) nameUsers(users);
  const wires = { a: new Wire(), b: new Wire() };
  try {
    const clients = /** @type {Record<"a" | "b", ChatAPI>} */ (Object.fromEntries(SLOTS.map((slot) => [slot,
      new ChatAPI({ url: location.origin, apiKey: credentials.apiKey, userId: users[slot], WebSocket: wires[slot].WebSocket, retries: 1 })])));
    await Promise.all(SLOTS.map((slot) => clients[slot].listRooms({ limit: 1 })));
    stop();
    beginPeople(clients.a, () => { for (const pane of session?.panes ?? []) pane.timeline.refreshNames(); });
    keepCredentials(credentials);
    nameUsers(users);
    setup.close();
    trouble.hide();
    await play(clients, wires, users);
  } catch (error) {
    failed(credentials, error);
  }
}

/** A wrong key or user can be mended in the form; for the rest it is tried again. @param {Credentials} credentials @param {any} error */
function failed(credentials, error) {
  server.askSoon();
  if (byId("setup").open || error.status === 400 || error.status === 401) return setup.ask(credentials, explainError(error));
  stop();
  trouble.show(explainError(error));
}

async function begin() {
  const credentials = await findCredentials() ?? tried;
  if (credentials) await start(credentials);
  else setup.ask(null);
}

function stop() {
  for (const pane of session?.panes ?? []) pane.close();
  session?.rooms.stop();
  session = null;
  byId("rest").replaceChildren();
}

/** @param {Record<"a" | "b", ChatAPI>} clients @param {Record<"a" | "b", Wire>} wires @param {Users} users */
async function play(clients, wires, users) {
  const newRoom = new NewRoom(byId("new-room"), clients, users, async (room) => { await rooms.refresh(); void open(room); });
  const rooms = new Rooms(byId("rooms"), {
    clients, users, open, create: () => newRoom.ask(), changed: () => { for (const pane of session?.panes ?? []) pane.showName(); } });
  const members = new Members(byId("members"), { clients, users, standing: (roomId, slot) => rooms.standing(roomId, slot), nameOf: (room) => rooms.nameOf(room) });
  const topics = new Topics(byId("topics"), clients, users, (pending) => showSideCount("topics", pending));
  const panes = SLOTS.map((slot) => new Pane(clients[slot], wires[slot], users[slot], slot, {
    frame: ({ direction, frame }) => {
      frames.add({ slot, user: users[slot], direction, frame, at: new Date() });
      if (direction === "in") raw.heard(slot, frame);
    },
    happened: (event) => happened(slot, event),
    slotOf: (userId) => SLOTS.find((one) => users[one] === userId),
    standing: (roomId) => rooms.standing(roomId, slot),
    nameOf: (room) => rooms.nameOf(room),
    invite: (roomId, userId) => clients[slot === "a" ? "b" : "a"].addMember(roomId, userId).then(() => { if (session?.room) open(rooms.get(session.room.room_id) ?? session.room); }),
    condition: (condition) => conditionChanged(condition),
    details: showDetails,
  }));
  session = { panes, rooms, members, topics, room: null };
  search.begin({
    clients, users,
    nameOf: async (roomId) => { const room = await rooms.find(roomId); return room ? rooms.nameOf(room) : roomId; },
    open: (message) => void showMessage(message),
  });
  byId("panes").replaceChildren(...panes.map((pane) => pane.element));
  panes.forEach(followAttention);
  showTab(document.body.dataset.tab ?? "chat");
  watchSide("members", (shown) => members.show(shown));
  watchSide("topics", (shown) => topics.show(shown));
  await rooms.refresh();
  const kept = sessionStorage.getItem(ROOM);
  open((kept && await rooms.find(kept)) || await rooms.openDirect());
  rooms.refreshSoon();
}

/** @param {"a" | "b"} slot @param {import("/sdk/chatapi.js").ServerEvent} event */
function happened(slot, event) {
  if (!session) return;
  const { rooms, members, topics } = session;
  const user = tried?.[slot];
  if (event.type === "room.deleted") rooms.forget(event.room_id);
  else if ((event.type === "member.left" || event.type === "member.banned") && event.user_id === user) rooms.forget(event.room_id, slot);
  else if (event.type === "notification") topics.heard(slot);
  else if (event.type === "user.updated") learnPeople([event.user]);
  if (event.type.startsWith("room.") || isLogEvent(event)
    || (event.type === "read.updated" && event.user_id === user)) rooms.refreshSoon();
  if (event.type.startsWith("room.") || event.type.startsWith("member.")) members.happened(event);
}

/** @param {import("./link.js").Condition} condition */
function conditionChanged({ state, error }) {
  server.askSoon();
  if (state !== "closed" || error?.status !== 401) return;
  stop();
  setup.ask(keptCredentials(), explainError(error));
}

/** @param {Room} room */
function open(room) {
  if (!session) return;
  session.room = room;
  sessionStorage.setItem(ROOM, room.room_id);
  session.rooms.select(room);
  const opened = Promise.all(session.panes.map((pane) => pane.open(room)));
  session.members.open(room);
  session.topics.open(room);
  if (PHONE.matches && document.body.dataset.view === "rooms") showView("a");
  return opened;
}

/** @param {import("/sdk/chatapi.js").Message} message */
async function showMessage({ room_id: roomId, message_id: messageId }) {
  const room = await session?.rooms.find(roomId);
  if (!session || !room) return;
  if (session.room?.room_id !== roomId) await open(room);
  const shown = session.panes.map((pane) => pane.timeline.show(messageId));
  if (!shown.includes(true)) toast("It is further back in this room: scroll up to it.");
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

function showDetails() {
  showSide("members");
  if (PHONE.matches) showView("frames");
}

/** @param {Users} users */
function nameUsers(users) {
  frames.setUsers(users.a, users.b);
  raw.setUsers(users);
  for (const slot of SLOTS) {
    const button = /** @type {HTMLElement} */ (document.querySelector(`.views [data-view=${slot}]`));
    button.replaceChildren(avatar(users[slot], slot), nameElement(users[slot], "span.view-name"));
    button.title = users[slot];
  }
}

for (const button of document.querySelectorAll(".tabs button")) button.addEventListener("click", () => showTab(/** @type {any} */ (button).dataset.tab));
for (const button of document.querySelectorAll(".views button")) button.addEventListener("click", () => showView(/** @type {any} */ (button).dataset.view));
PHONE.addEventListener("change", () => showView(document.body.dataset.view ?? "a"));
byId("search").addEventListener("click", () => search.ask());
byId("credentials").addEventListener("click", () => setup.ask(keptCredentials()));
addEventListener("unhandledrejection", (event) => { if (event.reason?.code !== "CLOSED") toast(describe(event.reason)); });

await begin();
