// Everything a test takes from chatapi-testing, in its types.
import { start, type Faults, type StartOptions, type TestServer, type WebhookCall } from "chatapi-testing";

const options: StartOptions = { args: ["--port", "0"], env: { CHATAPI_LIMITS_RATE_LIMIT: "5" } };

export async function check(): Promise<string> {
  const server: TestServer = await start(options);
  const faults: Faults = { drop: 0.5, delay_ms: 200, error: { status: 502, rate: 0.1, html: true }, user_id: "alice" };
  await server.faults(faults);
  await server.faults({ drop: true, cut_every_seconds: 5, lose_confirmations: 1, stall_seconds: 1, error: null });
  // @ts-expect-error - the name of a fault is misspelt
  await server.faults({ delay: 200 });
  const now: number = (await server.advance(60)).getTime();
  const [call]: WebhookCall[] = await server.webhooks();
  await server.reset();
  await server.stop();
  return `${server.url} ${server.apiKey} ${now} ${call?.valid}`;
}
