/** The types: they hold, and the declarations are those of the source. The packed package is tried by tests/test_npm_package.py. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

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

test("the types hold, and the declarations are what the compiler makes of the sources", { timeout: 120_000 }, () => inScratch(async (scratch) => {
  await run("npx", ["--no-install", "tsc", "--project", "."], { cwd: here });
  await run("npx", ["--no-install", "tsc", join(sdk, "chatapi.js"), "--allowJs", "--checkJs", "--strict", "--target", "es2022", "--module", "es2022",
    "--lib", "es2022,dom,dom.iterable", "--declaration", "--emitDeclarationOnly", "--outDir", scratch, "--ignoreConfig"], { cwd: here });
  await run("npx", ["--no-install", "tsc", "--project", "declarations.json", "--outDir", scratch], { cwd: here });
  for (const name of ["chatapi.d.ts", "ai.d.ts", "react.d.ts"]) {
    const [made, kept] = await Promise.all([join(scratch, name), join(sdk, name)].map((file) => readFile(file, "utf8")));
    assert.equal(kept, made, "run `npm run declarations` in tests/js");
  }
}));
