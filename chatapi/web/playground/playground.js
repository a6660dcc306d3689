/**
 * The playground: two users of one tenant, their rooms, the frames that pass, and the REST API beside them.
 * @module
 */
import { ChatAPI, isLogEvent } from "/sdk/chatapi.js";
import { Admin, ADMIN } from "./admin.js";
import { Agent } from "./agent.js";
import { Blocks } from "./blocks.js";
import { findCredentials, keepCredentials, keptCredentials, Setup } from "./credentials.js";
import { describe, h } from "/sdk/room/dom.js";
import { canMakeFaults, Faults } from "./faults.js";
import { Frames } from "./frames.js";
import { ChatAPIRoom } from "/sdk/room.js";
import { Wire } from "/sdk/room/link.js";
import { Members } from "./members.js";
import { MentionsDialog } from "./mentions-dialog.js";
import { NewRoom } from "./new-room.js";
import { Pane } from "/sdk/room/pane.js";
import { people } from "./people.js";
import { RawFrame } from "./raw.js";
import { explainError, isBan } from "/sdk/room/reasons.js";
import { dmUsers } from "./room-index.js";
import { RecoveryLog } from "./recovery-log.js";
import { Rooms } from "./rooms.js";
import { Search } from "./search.js";
import { ServerHealth } from "./server.js";
import { offerSide, showSide, showSideCount, watchSide } from "./side.js";
import { deedOfMessage, pipeOf, snippetsOf } from "./snippets.js";
import { toast } from "./toast.js";
import { Topics } from "./topics.js";
import { Trouble } from "./trouble.js";

/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").Message} Message */
/** @typedef {import("./credentials.js").Credentials} Credentials */
/** @typedef {Record<"a" | "b", string>} Users */
/** @typedef {{panes: Pane[], rooms: Rooms, members: Members, topics: Topics, admin: Admin, blocks: Blocks, room: Room | null}} Session */

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
const recovery = new RecoveryLog();
const faults = new Faults(byId("faults"), recovery.element, (count) => showSideCount("faults", count, "faults are on"));
const search = new Search();
const mentions = new MentionsDialog();
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
    const access = { url: location.origin, apiKey: credentials.apiKey, retries: 1, followMoves: false }; // this page may call no other server
    const clients = /** @type {Record<"a" | "b", ChatAPI>} */ (Object.fromEntries(SLOTS.map((slot) => [slot,
      new ChatAPI({ ...access, userId: users[slot], WebSocket: wires[slot].WebSocket })])));
    const backend = new ChatAPI({ ...access, userId: ADMIN });
    const banned = /** @type {string[]} */ ([]);
    await Promise.all(SLOTS.map((slot) => clients[slot].listRooms({ limit: 1 }).catch((error) => {
      if (!isBan(error)) throw error;
      banned.push(users[slot]); // which is shown in their pane
    })));
    stop();
    people.begin(backend);
    keepCredentials(credentials);
    nameUsers(users);
    setup.close();
    trouble.hide();
    await play(clients, backend, wires, users, banned, credentials.agent);
  } catch (error) {
    failed(credentials, error);
  }
}

/** A wrong key or user can be mended in the form; for the rest it is tried again. @param {Credentials} credentials @param {any} error */
function failed(credentials, error) {
  server.askSoon();
  if (byId("setup").open || error.status === 400 || error.status === 401) return setup.ask(credentials, explainError(error));
  stop();
  trouble.show(explainError(error), error.details?.url);
}

async function begin() {
  const credentials = await findCredentials() ?? tried;
  if (credentials) await start(credentials);
  else setup.ask(null);
}

function stop() {
  for (const pane of session?.panes ?? []) pane.close();
  session?.rooms.stop();
  session?.members.stop();
  session = null;
  byId("rest").replaceChildren();
}

/** @param {Record<"a" | "b", ChatAPI>} clients @param {ChatAPI} backend @param {Record<"a" | "b", Wire>} wires @param {Users} users @param {string[]} banned from the tenant @param {string} [agentId] */
async function play(clients, backend, wires, users, banned, agentId) {
  const newRoom = new NewRoom(byId("new-room"), clients, users, async (room) => { await rooms.refresh(); void open(room); });
  const agent = agentId ? new Agent(agentId, clients.a, users.b, { find: () => rooms.all, open: (room) => void meet(room, agentId) }) : null;
  const rooms = new Rooms(byId("rooms"), {
    clients, users, agent, open, create: () => newRoom.ask(), mentions: () => mentions.ask(), changed: () => { for (const pane of session?.panes ?? []) pane.showName(); } });
  const blocks = new Blocks(clients, users, () => { for (const pane of session?.panes ?? []) pane.showBlock(); members.refresh(); });
  const admin = new Admin(byId("admin"), backend, {
    open: (message) => void showMessage(message, "a"),
    banned: (userId) => tenantBanChanged(userId),
    counted: (count, more) => showSideCount("admin", count, "open reports", more),
  });
  const members = new Members(byId("members"), { clients, users, blocks, bans: admin.bans, standing: (roomId, slot) => rooms.standing(roomId, slot), nameOf: (room) => rooms.nameOf(room) });
  const topics = new Topics(byId("topics"), clients, users, (pending) => showSideCount("topics", pending, "to be acknowledged"));
  recovery.begin(users);
  faults.setUsers(users);
  const panes = SLOTS.map((slot) => new Pane(clients[slot], { wire: wires[slot] }, users[slot], {
    people, words: { host: location.host, credential: "key", user: "This user is", whole: "the tenant" }, isAtPlay: true,
    frame: ({ direction, frame }) => {
      frames.add({ slot, user: users[slot], direction, frame, at: new Date() });
      recovery.frame(slot, direction, frame);
      if (direction === "in") raw.heard(slot, frame);
    },
    happened: (event) => happened(slot, event),
    slotOf: (userId) => SLOTS.find((one) => users[one] === userId),
    standing: (roomId) => rooms.standing(roomId, slot),
    nameOf: (room) => rooms.nameOf(room),
    invite: (roomId, userId) => clients[slot === "a" ? "b" : "a"].addMember(roomId, userId).then(() => { if (session?.room) open(rooms.get(session.room.room_id) ?? session.room); }),
    condition: (condition) => { recovery.condition(slot, condition); conditionChanged(condition, slot); },
    blockIn: (room) => blockIn(room, slot),
    isBanned: () => admin.bans.isBanned(users[slot]),
    refused: () => void blocks.refresh(),
    reported: () => {
      toast(`${users[slot]}: reported. Your backend finds it among the reports, and gets a webhook call.`);
      void admin.reports.refresh();
    },
    say: toast,
    complain: (error) => toast(`${users[slot]}: ${describe(error)}`),
    snippets: (message) => [...snippetsOf(deedOfMessage(message), users[slot]), ...(message.stream && message.content ? [pipeOf(message, users[slot])] : [])],
    unread: () => {}, opened: () => {},
    readmitted: () => void admin.bans.refresh(),
    details: showDetails,
    hint: () => agent && [" ", agent.button("button.text-button"), ", who answers word by word."],
  }));
  session = { panes, rooms, members, topics, admin, blocks, room: null };
  const finding = {
    clients, users,
    nameOf: async (/** @type {string} */ roomId) => { const room = await rooms.find(roomId); return room ? rooms.nameOf(room) : roomId; },
    open: (/** @type {Message} */ message, /** @type {"a" | "b"} */ slot) => void showMessage(message, slot),
  };
  search.begin(finding);
  mentions.begin(finding);
  byId("panes").replaceChildren(...panes.map(roomElement));
  panes.forEach(followAttention);
  showTab(document.body.dataset.tab ?? "chat");
  watchSide("members", (shown) => members.show(shown));
  watchSide("topics", (shown) => topics.show(shown));
  watchSide("admin", (shown) => admin.show(shown));
  void admin.reports.refresh();
  await Promise.all([rooms.refresh(), admin.bans.refresh(banned), blocks.refresh()]);
  await openFirst();
  rooms.refreshSoon();
}

/** @param {Pane} pane */
function roomElement(pane) {
  const element = new ChatAPIRoom();
  element.dataset.slot = pane.slot;
  element.mount(pane);
  return element;
}

/** The room that was open, else the one that the two users have for themselves. */
async function openFirst() {
  const kept = sessionStorage.getItem(ROOM);
  if (!session) return;
  const { rooms, panes } = session;
  const room = (kept && await rooms.find(kept)) || await rooms.openDirect().catch((/** @type {any} */ error) => {
    if (error.status !== 403) throw error; // one of them has blocked the other, or both are banned
    return rooms.first;
  });
  if (room) open(room);
  else for (const pane of panes) pane.showNothing();
}

/** Neither may write in a dm in which one has blocked the other. @param {Room} room @param {"a" | "b"} slot */
function blockIn(room, slot) {
  const other = room.type === "dm" && dmUsers(room).find((userId) => userId !== tried?.[slot]);
  const blocks = session?.blocks;
  const block = other && blocks?.between(slot, other);
  if (!block) return null;
  if (block === "other") return { reason: `${other} has blocked you.`, remedy: { label: "Check again", run: () => blocks?.refresh() } };
  const unblock = () => blocks?.set(slot, other, false).catch((error) => toast(describe(error)));
  return { reason: `You have blocked ${other}.`, remedy: { label: "Unblock", run: unblock } };
}

/** @param {string} userId */
function tenantBanChanged(userId) {
  const slot = SLOTS.find((one) => tried?.[one] === userId);
  session?.members.refresh();
  if (slot && !session?.admin.bans.isBanned(userId)) void readmit(slot);
}

/** The user's ban from the tenant has ended. @param {"a" | "b"} slot */
async function readmit(slot) {
  const playing = session;
  if (!playing) return;
  const { link } = /** @type {Pane} */ (playing.panes.find((pane) => pane.slot === slot));
  if (link.ban) link.retryNow();
  await playing.rooms.refresh().catch(() => {}); // being offline is shown already
  if (playing !== session) return;
  if (playing.room) open(playing.rooms.get(playing.room.room_id) ?? playing.room);
  else await openFirst();
}

/** @param {"a" | "b"} slot @param {import("/sdk/chatapi.js").ServerEvent} event */
function happened(slot, event) {
  if (!session) return;
  const { rooms, members, topics } = session;
  const user = tried?.[slot];
  if (event.type === "room.deleted") rooms.forget(event.room_id);
  else if ((event.type === "member.left" || event.type === "member.banned") && event.user_id === user) rooms.forget(event.room_id, slot);
  else if (event.type === "notification") topics.heard(slot);
  else if (event.type === "user.updated") people.learn([event.user]);
  if (event.type.startsWith("room.") || isLogEvent(event)
    || (event.type === "read.updated" && event.user_id === user)) rooms.refreshSoon();
  if (event.type === "member.unbanned") for (const pane of session.panes) if (pane.user === event.user_id) pane.reconsider(event.room_id); // no event tells them
  if (event.type === "ready") void session.blocks.refresh(); // somebody may have blocked meanwhile
  if (/^(room|member|presence)\./.test(event.type)) members.happened(event);
}

/** @param {import("/sdk/room/link.js").Condition} condition @param {"a" | "b"} slot */
function conditionChanged({ state, error }, slot) {
  server.askSoon();
  if (state === "closed" && isBan(error)) void session?.admin.bans.refresh([tried?.[slot] ?? ""]);
  if (state === "closed" && error?.code === "TENANT_MOVED" && tried) return failed(tried, error);
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

/** The agent's room is opened, and the first user begins to write to them. @param {Room} room @param {string} agentId */
async function meet(room, agentId) {
  await open(room);
  session?.panes[0].composer.begin(`@${agentId} `);
}

/** To one of the two users, or to the other one where only they can read it. @param {Message} message @param {"a" | "b"} slot */
async function showMessage({ room_id: roomId, message_id: messageId }, slot) {
  const room = await session?.rooms.find(roomId);
  if (!session) return;
  if (!room) return toast("Neither of the two users can read that room.");
  if (session.room?.room_id !== roomId) await open(room);
  const reader = session.panes.find((pane) => pane.slot === slot && pane.canRead) ?? session.panes.find((pane) => pane.canRead);
  if (!reader) return toast("Neither of the two users can read that room.");
  if (PHONE.matches) showView(reader.slot ?? "");
  for (const pane of session.panes) if (pane !== reader) void pane.reveal(messageId, false);
  await reader.reveal(messageId);
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
    button.replaceChildren(people.avatar(users[slot], slot), people.nameElement(users[slot], "span.view-name"));
    button.title = users[slot];
  }
}

for (const button of document.querySelectorAll(".tabs button")) button.addEventListener("click", () => showTab(/** @type {any} */ (button).dataset.tab));
for (const button of document.querySelectorAll(".views button")) button.addEventListener("click", () => showView(/** @type {any} */ (button).dataset.view));
PHONE.addEventListener("change", () => showView(document.body.dataset.view ?? "a"));
byId("search").addEventListener("click", () => search.ask());
byId("credentials").addEventListener("click", () => setup.ask(keptCredentials()));
addEventListener("focus", () => void session?.blocks.refresh());
addEventListener("unhandledrejection", (event) => { if (event.reason?.code !== "CLOSED") toast(describe(event.reason)); });

watchSide("faults", (shown) => faults.show(shown));
if (await canMakeFaults()) offerSide("faults");
await begin();
