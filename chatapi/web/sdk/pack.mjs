// Makes the CommonJS half of the package for `npm pack`, line by line from the modules; `node pack.mjs clean` removes it again.
import { readFileSync, rmSync, writeFileSync } from "node:fs";

const MODULES = ["chatapi", "ai", "react"];

/** The same lines at the same places, so that a stack trace is true of the source as well. */
function toCommonJS(source) {
  const names = [...source.matchAll(/^export (?:async )?(?:class|function|const) (\w+)/gm)].map(([, name]) => name);
  const made = source
    .replace(/^("use client";)?/, (directive) => `${directive}"use strict"; `)
    .replace(/^import (\{.*\}) from "(.*?)(?:\.js)?";$/gm, (_, taken, from) => `const ${taken} = require("${from}${from.startsWith(".") ? ".cjs" : ""}");`)
    .replace(/^export (?=(?:async )?(?:class|function|const) )/gm, "");
  if (/^(?:import|export)\b/m.test(made)) throw new Error("an import or export of a form that is not known here");
  return `${made}\nmodule.exports = { ${names.join(", ")} };\n`;
}

for (const name of MODULES) {
  const files = [`${name}.cjs`, `${name}.d.cts`].map((file) => new URL(file, import.meta.url));
  if (process.argv[2] === "clean") files.forEach((file) => rmSync(file, { force: true }));
  else {
    const [source, types] = [`${name}.js`, `${name}.d.ts`].map((file) => readFileSync(new URL(file, import.meta.url), "utf8"));
    writeFileSync(files[0], toCommonJS(source));
    writeFileSync(files[1], types.replaceAll('from "./chatapi.js"', 'from "./chatapi.cjs"').replaceAll('from "ai"', 'from "ai" with { "resolution-mode": "import" }'));
  }
}
