"use strict";
// A thin wrapper around `chatapi serve --test`. The server ends with the pipe of its standard input, so it never
// outlives the process that started it, however that ends.

const { spawn } = require("node:child_process");
const { accessSync, constants } = require("node:fs");
const { delimiter, join } = require("node:path");

const START_MS = 30_000;
const STOP_MS = 15_000; // more than the server's own grace
const LOG_CHARACTERS = 16_384; // the end of the log, for errors

/** The command and its first arguments: $CHATAPI_COMMAND, else `chatapi` on the path, else `python3 -m chatapi`. */
function findCommand(env) {
  const given = env.CHATAPI_COMMAND?.trim();
  if (given) return given.split(/\s+/);
  for (const folder of (env.PATH ?? "").split(delimiter).filter(Boolean)) {
    try {
      accessSync(join(folder, "chatapi"), constants.X_OK);
      return ["chatapi"];
    } catch {
      continue;
    }
  }
  return ["python3", "-m", "chatapi"];
}

class TestServer {
  #process;
  #ended;

  constructor(child, ended, printed) {
    this.#process = child;
    this.#ended = ended;
    this.url = printed.url;
    this.masterKey = printed.master_key;
    this.tenantId = printed.tenant_id;
    this.apiKey = printed.api_key;
    this.tokenSecret = printed.token_secret;
    this.webhookSecret = printed.webhook_secret;
  }

  async #call(method, path, body) {
    const response = await fetch(`${this.url}/dev${path}`, {
      method,
      headers: { "X-Master-Key": this.masterKey, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    const envelope = text ? JSON.parse(text) : { data: {} };
    if (!response.ok) throw new Error(`${method} /dev${path}: ${envelope.error.message}`);
    return envelope.data;
  }

  async reset() {
    await this.#call("POST", "/reset");
  }

  async advance(seconds) {
    return new Date((await this.#call("POST", "/clock", { advance: seconds })).now);
  }

  async faults(faults) {
    await this.#call("POST", "/faults", faults);
  }

  async webhooks() {
    return (await this.#call("GET", "/webhooks")).calls;
  }

  async stop() {
    this.#process.stdin.end();
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}

async function start({ command, args = [], env = {} } = {}) {
  const environment = { ...process.env, ...env };
  const [program, ...first] = command ?? findCommand(environment);
  const child = spawn(program, [...first, "serve", "--test", ...args], { env: environment });
  let log = "";
  let ended;
  child.stderr.setEncoding("utf8").on("data", (text) => (log = (log + text).slice(-LOG_CHARACTERS)));
  child.stdin.on("error", () => {}); // it has ended already
  const printed = await new Promise((resolve, reject) => {
    let line = "";
    const fail = (why) => {
      clearTimeout(timer);
      child.kill("SIGKILL");
      reject(new Error(`The ChatAPI test server did not start: ${why}\n${log}`));
    };
    const timer = setTimeout(() => fail(`it printed nothing within ${START_MS / 1000} s`), START_MS);
    ended = new Promise((resolveEnd) => child.once("close", resolveEnd));
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`it ended with status ${code}`));
    child.stdout.setEncoding("utf8").on("data", (text) => {
      line += text;
      if (!line.includes("\n")) return;
      clearTimeout(timer);
      child.removeAllListeners("exit");
      try {
        resolve(JSON.parse(line.slice(0, line.indexOf("\n"))));
      } catch (error) {
        fail(error.message);
      }
    });
  });
  return new TestServer(child, ended, printed);
}

module.exports = { start, TestServer };
