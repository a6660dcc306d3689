/**
 * What the cases share: a tenant of their own, clients of its users, and events to wait for.
 *
 * Environment: CHATAPI_TEST_URL; CHATAPI_TEST_MASTER_KEY, or CHATAPI_TEST_KEY of a tenant to use; and, for the cases that
 * restart the server, CHATAPI_TEST_CONTROL, an address that takes POST /kill, /stop and /start; and CHATAPI_TEST_PROXY, a proxy
 * before the server, which POST /proxy of the former tells what to answer itself; and CHATAPI_TEST_NEWER, another proxy, which makes
 * of it a server of a later 1.x; and CHATAPI_TEST_OTHER, another server, to which POST /move of the control moves a tenant, and back;
 * and CHATAPI_TEST_TRANSPORT, which is to carry the connections of the cases.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { ChatAPI } from "../../chatapi/web/sdk/chatapi.js";

export const url = process.env.CHATAPI_TEST_URL;
export const transport = process.env.CHATAPI_TEST_TRANSPORT;
export const proxyUrl = process.env.CHATAPI_TEST_PROXY;
export const newerUrl = process.env.CHATAPI_TEST_NEWER;
export const otherUrl = process.env.CHATAPI_TEST_OTHER;
export const can = { move: Boolean(otherUrl), restart: Boolean(process.env.CHATAPI_TEST_CONTROL), proxy: Boolean(proxyUrl), newer: Boolean(newerUrl) };

const PATIENCE_MS = 60_000; // restarts of the server and dozens of tries included, on a machine that does much else

/** @param {"kill" | "stop" | "start"} what */
export async function control(what) {
  const response = await fetch(`${process.env.CHATAPI_TEST_CONTROL}/${what}`, { method: "POST" });
  if (!response.ok) throw new Error(`${what}: ${await response.text()}`);
}

/** Moves it to the other server, or back. @param {string} tenantId */
export async function moveTenant(tenantId) {
  const response = await fetch(`${process.env.CHATAPI_TEST_CONTROL}/move`, { method: "POST", body: tenantId });
  if (!response.ok) throw new Error(await response.text());
}

/** The proxy answers the next requests of this kind itself, with each of these answers once. @param {string[]} answers */
export async function intercept(method, path, answers) {
  const response = await fetch(`${process.env.CHATAPI_TEST_CONTROL}/proxy`, { method: "POST", body: JSON.stringify({ method, path, answers }) });
  if (!response.ok) throw new Error(await response.text());
}

/** How many of its own answers the proxy has not given yet. */
export async function answersLeft() {
  return Number(await (await fetch(`${process.env.CHATAPI_TEST_CONTROL}/proxy`, { method: "POST" })).text());
}

/** The newer server ends every connection with this code. @param {number} code */
export async function closeWith(code) {
  const response = await fetch(`${newerUrl}/newer/close`, { method: "POST", body: JSON.stringify(code) });
  if (!response.ok) throw new Error(await response.text());
}

/** How often the events of a room were asked for at the newer server. */
export async function readsOfEvents() {
  return Number(await (await fetch(`${newerUrl}/newer/reads`)).text());
}

/** A new tenant, so that no case sees another's rooms or uses up another's rate; without a master key the one given. */
export async function newTenant(config = { rate_limit: 100_000 }) {
  if (!process.env.CHATAPI_TEST_MASTER_KEY) return { api_key: process.env.CHATAPI_TEST_KEY };
  const response = await fetch(`${url}/admin/tenants`, {
    method: "POST",
    headers: { "X-Master-Key": process.env.CHATAPI_TEST_MASTER_KEY, "Content-Type": "application/json" },
    body: JSON.stringify({ name: "sdk", config }),
  });
  const { data, error } = await response.json();
  if (!data) throw new Error(error.message);
  return data;
}

/** Clients and connections of one tenant, all closed at the end of the case. */
export class Rig {
  #open = [];
  /** What carries its connections; undefined leaves that to them. @type {string[] | undefined} */ transports;

  /** @param {Record<string, unknown>} [config] of its tenant @param {string} [at] another address than the server's own */
  static async make(config, at = url) {
    const rig = new Rig();
    rig.url = at;
    ({ tenant_id: rig.tenantId, api_key: rig.apiKey } = await newTenant(config));
    return rig;
  }

  /** @param {string} userId */
  client(userId, options = {}) {
    return new ChatAPI({ url: this.url, apiKey: this.apiKey, userId, WebSocket, ...options });
  }

  /** A connection and the inbox that gathers its events. */
  async connect(userId, options = {}) {
    return this.attach(this.client(userId), options);
  }

  async attach(client, { handler, ...options } = {}) {
    const connection = client.connect({ minDelayMs: 50, maxDelayMs: 500, transports: this.transports, ...options });
    this.#open.push(connection);
    const inbox = new Inbox(connection, handler);
    await inbox.until((event) => event.type === "sync.complete");
    return { client, connection, inbox };
  }

  /** @param {string[]} members the first one creates it */
  async group(...members) {
    return (await this.client(members[0]).createRoom({ type: "group", members })).room_id;
  }

  close() {
    for (const connection of this.#open) connection.close();
  }
}

/** A test for each shared case, over the transport of this run, if the case is one for that. */
export function testCases(cases, shared, at = url) {
  for (const { name, needs, over } of shared) {
    test(name, { timeout: 180_000, skip: needs && !can[needs] && `nothing here to ${needs} with` }, async () => {
      const rig = await Rig.make(undefined, at);
      if (transport && (over ?? [transport]).includes(transport)) rig.transports = [transport];
      try {
        await cases[name](rig);
      } finally {
        rig.close();
      }
    });
  }
}

export class Inbox {
  events = [];
  #waiting = new Set();

  constructor(connection, handler = () => {}) {
    connection.on("error", (error) => this.events.push({ type: "local.error", error }));
    connection.on("*", async (event) => {
      await handler(event);
      this.events.push(event);
      for (const look of this.#waiting) look();
    });
  }

  /** The first event, past or future, that `test` accepts. */
  async until(test) {
    return (await this.untilCount(1, test))[0];
  }

  /** The events that `test` accepts, when there are `count` of them. */
  untilCount(count, test) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.events.filter(test);
        if (found.length < count) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(found);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`${this.events.filter(test).length} of ${count} events came; the last ones: ${JSON.stringify(this.events.slice(-5))}`));
      }, PATIENCE_MS);
      this.#waiting.add(look);
      look();
    });
  }

  messages(roomId) {
    return this.events.filter((event) => event.type === "message" && event.room_id === roomId);
  }
}

export function messagesOf(roomId) {
  return (event) => event.type === "message" && event.room_id === roomId;
}

/** `prefix 1` to `prefix n`. */
export function numbered(prefix, count) {
  return Array.from({ length: count }, (_, i) => `${prefix} ${i + 1}`);
}

export function range(from, to) {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

/** Everything in a room, over REST. */
export async function storedMessages(client, roomId) {
  const all = [];
  for (;;) {
    const page = await client.listMessages(roomId, { after_seq: all.at(-1)?.seq ?? 0, limit: 100 });
    all.push(...page.messages);
    if (!page.has_more) return all;
  }
}

export const contents = (messages) => messages.map((message) => message.content);
export const seqs = (events) => events.map((event) => event.seq);

/** Whether an error is this one. */
export const refusal = (code, status, field) => (error) => error.code === code && error.status === status && (!field || error.field === field);

/** What no event tells is asked for, again and again. */
export async function until(test) {
  for (const end = Date.now() + PATIENCE_MS; !(await test());) {
    assert.ok(Date.now() < end, "it did not come true in time");
    await new Promise((resolve) => { setTimeout(resolve, 25); });
  }
}
