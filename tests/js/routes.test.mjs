/** Every route of the OpenAPI document has its method, and every method its documentation. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { AdminAPI, ChatAPI, Connection } from "../../chatapi/web/sdk/chatapi.js";
import { url } from "./rig.mjs";

const DECLARATIONS = new URL("../../chatapi/web/sdk/chatapi.d.ts", import.meta.url);
const METHODS = ["get", "post", "put", "patch", "delete"];
const NO_ROUTE = ["constructor", "call", "tryOnce", "connect", "asUser", "openSocketWith", "openStream", "findUserId", "renewToken", "findRefusal", "follow", "moveTo"];

/** The names of its methods, those of its base class included. */
function methodsOf(type) {
  const names = [];
  for (let proto = type.prototype; proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto))) if (typeof value === "function") names.push(name);
  }
  return names.filter((name) => !NO_ROUTE.includes(name));
}

test("every route has its method", async () => {
  const asked = [];
  const fetch = async (address, { method }) => {
    asked.push([method.toLowerCase(), new URL(address).pathname.replace(/^\/v1/, "")]);
    return Response.json({ success: false, data: null, error: { code: "NOT_FOUND", message: "no" } }, { status: 404 });
  };
  const { paths } = await new ChatAPI({ url, token: "t" }).openapi();
  const templates = Object.keys(paths).sort((a, b) => a.split("{").length - b.split("{").length);
  const found = new Set();
  for (const client of [new ChatAPI({ url, apiKey: "k", userId: "u", fetch }), new AdminAPI({ url, masterKey: "m", fetch })]) {
    for (const name of methodsOf(client.constructor)) {
      asked.length = 0;
      const options = { retries: 0 };
      const given = Array.from({ length: client[name].length }, (_, index) => (index === client[name].length - 1 ? options : "x"));
      await assert.rejects(client[name](...given), { code: "NOT_FOUND", status: 404 }, name);
      assert.equal(asked.length, 1, name);
      const [[method, path]] = asked;
      const template = templates.find((one) => paths[one][method] && new RegExp(`^${one.replace(/\{.*?\}/g, "[^/]+").replaceAll(".", "\\.")}$`).test(path));
      assert.ok(template, `${name}: no route is ${method} ${path}`);
      found.add(`${method} ${template}`);
    }
  }
  const routes = Object.entries(paths).flatMap(([path, entry]) => METHODS.filter((method) => entry[method]).map((method) => `${method} ${path}`));
  // An event stream is a connection, as `/ws` is. Pipes are for programs without a library.
  const apart = (route) => route === "get /events/stream" || route.endsWith("/messages/stream");
  assert.deepEqual([...found].sort(), routes.filter((route) => !apart(route)).sort());
});

test("calls need no ReadableStream, which React Native has not", async () => {
  const { ReadableStream } = globalThis;
  const answer = Response.json({ success: true, data: { room_id: "room_1" }, error: null });
  const fetch = async () => answer;
  delete globalThis.ReadableStream;
  try {
    assert.equal((await new ChatAPI({ url: "http://chat.example", token: "t", fetch, retries: 0 }).getRoom("room_1")).room_id, "room_1");
  } finally {
    globalThis.ReadableStream = ReadableStream;
  }
});

test("every method says what it does", async () => {
  const text = await readFile(DECLARATIONS, "utf8");
  const classes = [...text.matchAll(/^(?:export )?declare class (\w+).*? \{\n(.*?)^\}/gms)].filter(([, name]) => name !== "Credentials");
  assert.deepEqual(classes.map(([, name]) => name).sort(), ["AdminAPI", "ChatAPI", "ChatAPIError", "Connection", "GrowingMessage", "RestClient", "StreamFailed"]);
  for (const [, type, body] of classes) {
    // A member, with the comment before it: a text, not only tags.
    for (const [, comment = "", name] of body.matchAll(/((?:^ {4}\/\*\*(?:(?!\*\/).)*?\*\/\n)?)^ {4}(?:get )?(\w+)(?:<[^>]*>)?\(/gms)) {
      if (name === "constructor" || comment.includes("@internal")) continue;
      const words = comment.replace(/^\s*\/?\*+\/?/gm, "").split("@")[0].trim();
      assert.ok(words.length > 10, `${type}.${name}: ${JSON.stringify(comment)}`);
      assert.ok(!/Page\} \[page\]/.test(comment) || words.includes("`limit`: 1 to"), `${type}.${name} does not tell the bounds of limit`);
    }
  }
});

test("every method is in the reference", async () => {
  const page = await readFile(new URL("README.md", DECLARATIONS), "utf8");
  const reference = page.slice(page.indexOf("## Reference"));
  const names = [ChatAPI, AdminAPI, Connection].flatMap(methodsOf);
  assert.deepEqual(names.filter((name) => !new RegExp(`\`${name}[\`(]`).test(reference)), []);
});

test("an answer of a compaction without one of its sizes is refused", async () => {
  const whole = { stage: "done", before_bytes: 2, file_bytes: 1, free_bytes: 0 };
  const compactWith = (data) => new AdminAPI({ url, masterKey: "m", fetch: async () => Response.json({ success: true, data, error: null }) }).compact();
  assert.deepEqual(await compactWith(whole), whole);
  for (const name of Object.keys(whole)) await assert.rejects(compactWith({ ...whole, [name]: undefined }), { code: "NOT_CHATAPI" }, name);
});

test("the operator's calls work", async () => {
  const admin = new AdminAPI({ url, masterKey: process.env.CHATAPI_TEST_MASTER_KEY });
  const { tenant_id: id, api_key: key } = await admin.createTenant({ name: "acme", config: { rate_limit: 50 } });
  assert.ok(key.startsWith("sk_"));
  assert.equal((await admin.getTenant(id)).config.rate_limit, 50);
  assert.ok((await admin.listTenants({ limit: 100 })).tenants.some((tenant) => tenant.tenant_id === id));
  const { key_id: keyId } = await admin.createKey(id);
  assert.equal((await admin.listKeys(id, { limit: 1 })).has_more, true);
  await admin.revokeKey(id, keyId);
  assert.equal((await admin.listKeys(id)).keys.length, 1);
  assert.ok((await admin.rotateTokenSecret(id)).token_secret);
  await assert.rejects(admin.retryDeadLetters(id), { code: "CONFLICT" });
  const hooked = { webhook_url: "https://hooks.example.com/", webhook_events: ["message.created", "user.online"] };
  assert.ok((await admin.updateTenant(id, { config: hooked })).webhook_secret);
  assert.deepEqual((await admin.getTenant(id)).config.webhook_events, hooked.webhook_events);
  assert.ok((await admin.rotateWebhookSecret(id)).webhook_secret);
  assert.deepEqual(await admin.retryDeadLetters(id), { retried: 0 });
  await assert.rejects(admin.retryDeadLetter("none"), { code: "NOT_FOUND" });
  assert.deepEqual((await admin.listDeadLetters({ tenant_id: id })).failed_messages, []);
  assert.equal((await admin.listAudit({ tenant_id: id, limit: 1 })).entries[0].action, "tenant.create");
  assert.ok((await admin.getStats()).tenants.some((tenant) => tenant.tenant_id === id));
  assert.equal((await admin.compact()).stage, "done");
  assert.match(await admin.metrics(), /chatapi_connections/);
  assert.ok((await admin.asyncapi()).asyncapi);
  assert.deepEqual([await admin.livez(), await admin.readyz()], [{ status: "ok" }, { status: "ok" }]);
  assert.equal((await admin.info()).links.websocket, "/ws");
  const pieces = [];
  for await (const piece of await admin.exportTenant(id)) pieces.push(piece);
  const file = new Blob(pieces);
  await assert.rejects(admin.importTenant(file), { code: "CONFLICT", status: 409 });
  await admin.deleteTenant(id);
  await assert.rejects(admin.getTenant(id), { code: "NOT_FOUND", status: 404 });
  await assert.rejects(admin.exportTenant(id), { code: "NOT_FOUND", status: 404 });
  assert.equal((await admin.importTenant(file)).tenant_id, id);
  await admin.deleteTenant(id);
  assert.deepEqual((await admin.importTenant(file.stream())).config.webhook_events, hooked.webhook_events);
  await admin.deleteTenant(id);
  await assert.rejects(admin.importTenant("no database"), { code: "VALIDATION_ERROR", status: 400 });
  assert.throws(() => new AdminAPI({ url }), TypeError);
  await assert.rejects(new AdminAPI({ url, masterKey: "wrong" }).getStats(), { code: "AUTHENTICATION_ERROR", status: 401 });
  await assert.rejects(new AdminAPI({ url: `${url}/playground`, masterKey: "m", retries: 0 }).openapi(), { status: 404 });
});
