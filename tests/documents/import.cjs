// Reads a document as Postman, Insomnia or AsyncAPI's own parser does, and prints what it found as JSON.
// node import.cjs postman|collection|insomnia|asyncapi FILE
const fs = require("node:fs");

const [, , tool, file] = process.argv;
const text = fs.readFileSync(file, "utf8");

const tools = {
  async postman() {
    const { convert } = require("openapi-to-postmanv2");
    const answer = await new Promise((resolve, reject) => {
      convert({ type: "string", data: text }, {}, (error, result) => (error ? reject(error) : resolve(result)));
    });
    if (!answer.result) throw new Error(answer.reason);
    const requests = [];
    const visit = (item) => (item.item ? item.item.forEach(visit) : requests.push(item.request));
    answer.output[0].data.item.forEach(visit);
    return requests.map((request) => ({ method: request.method, body: request.body?.raw ?? null }));
  },

  // As Postman's import does with "Parameter generation: Example".
  async collection() {
    const { convertV2 } = require("openapi-to-postmanv2");
    const answer = await new Promise((resolve, reject) => {
      convertV2({ type: "string", data: text }, { parametersResolution: "Example" }, (error, result) =>
        error ? reject(error) : resolve(result),
      );
    });
    if (!answer.result) throw new Error(answer.reason);
    return answer.output[0].data;
  },

  async insomnia() {
    const log = console.log;
    console.log = () => {}; // it says that 3.1 is new to it
    const { convert } = require("insomnia-importers");
    const { data } = await convert(text);
    console.log = log;
    const requests = data.resources.filter((resource) => resource._type === "request");
    return requests.map((request) => ({ method: request.method, body: request.body?.text ?? null }));
  },

  async asyncapi() {
    const { Parser } = require("@asyncapi/parser");
    const { document, diagnostics } = await new Parser().parse(text);
    const errors = diagnostics.filter((found) => found.severity < 2);
    if (!document || errors.length) throw new Error(JSON.stringify(errors));
    return document.messages().all().map((message) => message.name());
  },
};

tools[tool]().then(
  (found) => process.stdout.write(JSON.stringify(found)),
  (error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  },
);
