// A client whose types openapi-typescript has made: tsc checks this file, and node runs it.
// node typed.mjs URL API_KEY
import assert from "node:assert";
import createClient from "openapi-fetch";

const [, , baseUrl, apiKey] = process.argv;

/** @type {import("openapi-fetch").Client<import("./schema.d.ts").paths>} */
const client = createClient({ baseUrl, headers: { "X-API-Key": apiKey, "X-User-Id": "alice" } });

// The fewest fields that a person would write: none that has a default.
const room = await client.POST("/rooms", { body: { type: "group", members: ["bob"] } });
assert.ok(room.data);
const path = { room_id: room.data.data.room_id };
const sent = await client.POST("/rooms/{room_id}/messages", { params: { path }, body: { content: "Hello" } });
assert.ok(sent.data);
assert.equal(sent.data.data.seq, 1);
await client.POST("/rooms/{room_id}/members", { params: { path }, body: { user_id: "carol" } });
await client.POST("/notify", { body: { topic: "t", payload: { a: 1 }, targets: { user_ids: ["bob"] } } });

const history = await client.GET("/rooms/{room_id}/messages", { params: { path, query: { limit: 10 } } });
assert.ok(history.data);
assert.deepEqual(history.data.data.messages.map((message) => message.content), ["Hello"]);

const refused = await client.GET("/rooms/{room_id}", { params: { path: { room_id: "room_0" } } });
assert.ok(refused.error);
assert.equal(refused.error.error.code, "NOT_FOUND");
process.stdout.write("ok\n");
