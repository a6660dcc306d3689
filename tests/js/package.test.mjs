/** The package: what npm packs can be installed and used, and its declarations are those of the source. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { url } from "./rig.mjs";

const run = promisify(execFile);
const here = fileURLToPath(new URL(".", import.meta.url));
const sdk = fileURLToPath(new URL("../../chatapi/web/sdk/", import.meta.url));

async function inScratch(work) {
  const scratch = await mkdtemp(join(tmpdir(), "chatapi-"));
  try {
    await work(scratch);
  } finally {
    await rm(scratch, { recursive: true });
  }
}

test("npm pack makes a package that imports", { timeout: 120_000 }, () => inScratch(async (scratch) => {
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", scratch], { cwd: sdk });
  const [{ filename, files, version }] = JSON.parse(stdout);
  assert.deepEqual(files.map((file) => file.path).sort(), ["LICENSE", "README.md", "ai.d.ts", "ai.js", "chatapi.d.ts", "chatapi.js", "package.json"]);
  const init = await readFile(join(here, "../../chatapi/__init__.py"), "utf8");
  assert.equal(version, /__version__ = "(.+)"/.exec(init)?.[1]);
  await writeFile(join(scratch, "package.json"), '{"private": true, "type": "module"}');
  await run("npm", ["install", "--no-audit", "--no-fund", "--offline", join(scratch, filename)], { cwd: scratch });
  await symlink(join(here, "node_modules/ws"), join(scratch, "node_modules/ws"));
  await writeFile(join(scratch, "use.mjs"), `
    import { ChatAPI } from "chatapi-js";
    import WebSocket from "ws";
    const chat = new ChatAPI({ url: "${url}", apiKey: "sk_none", userId: "alice", WebSocket });
    const { RoomChatTransport } = await import("chatapi-js/ai"); // without the package ai
    new RoomChatTransport({ client: chat }).close();
    console.log((await chat.health()).status);
  `);
  assert.equal((await run("node", ["use.mjs"], { cwd: scratch })).stdout.trim(), "ok");
}));

test("the types hold, and the declarations are what the compiler makes of the sources", { timeout: 120_000 }, () => inScratch(async (scratch) => {
  await run("npx", ["--no-install", "tsc", "--project", "."], { cwd: here });
  await run("npx", ["--no-install", "tsc", join(sdk, "chatapi.js"), "--allowJs", "--checkJs", "--strict", "--target", "es2022", "--module", "es2022",
    "--lib", "es2022,dom,dom.iterable", "--declaration", "--emitDeclarationOnly", "--outDir", scratch, "--ignoreConfig"], { cwd: here });
  await run("npx", ["--no-install", "tsc", "--project", "declarations.json", "--outDir", scratch], { cwd: here });
  for (const name of ["chatapi.d.ts", "ai.d.ts"]) {
    const [made, kept] = await Promise.all([join(scratch, name), join(sdk, name)].map((file) => readFile(file, "utf8")));
    assert.equal(kept, made, "run `npm run declarations` in tests/js");
  }
}));
