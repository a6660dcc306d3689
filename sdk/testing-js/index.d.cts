/** How to start the server. */
export interface StartOptions {
  /** The command and its first arguments. Without it: $CHATAPI_COMMAND, else `chatapi` on the path, else
   * `python3 -m chatapi`. */
  command?: readonly string[];
  /** More arguments for `serve --test`, such as `["--port", "8080"]`. */
  args?: readonly string[];
  /** More variables, such as `{ CHATAPI_LIMITS_RATE_LIMIT: "5" }`. */
  env?: Readonly<Record<string, string>>;
}

/** What clients meet; without a field, that fault is off. */
export interface Faults {
  /** Cuts WebSockets, event streams and running requests now: all, or at random this share (above 0, at most 1). */
  readonly drop?: boolean | number;
  /** Cuts them so often: 0.1 to 3,600 seconds. */
  readonly cut_every_seconds?: number | null;
  /** Everything that is answered comes so much later: at most 60,000. */
  readonly delay_ms?: number;
  /** An answer of this status (400 to 599) to this share of the requests (1), as the server's own error or as a broken
   * proxy's page of HTML. */
  readonly error?: { readonly status: number; readonly rate?: number; readonly html?: boolean } | null;
  /** So many of the next writes are stored, and their connections cut in place of the confirmation. */
  readonly lose_confirmations?: number;
  /** For so long, at most 600 seconds, connections take and give nothing. */
  readonly stall_seconds?: number;
  /** Strikes this user alone. */
  readonly user_id?: string | null;
}

/** A webhook call that the server's own inbox has taken. */
export interface WebhookCall {
  id: string;
  type: string;
  body: Record<string, unknown>;
  /** Whether the signature is right. */
  valid: boolean;
  at: string;
}

export declare class TestServer {
  readonly url: string;
  readonly masterKey: string;
  readonly tenantId: string;
  readonly apiKey: string;
  readonly tokenSecret: string;
  readonly webhookSecret: string;
  private constructor();
  /** Removes everything but the tenant. Connections close with 1001. */
  reset(): Promise<void>;
  /** Lets so many seconds pass at once. All that was due has happened on return, which gives the server's time. */
  advance(seconds: number): Promise<Date>;
  /** Replaces the faults that clients meet; `{}` ends all. */
  faults(faults: Faults): Promise<void>;
  /** The webhook calls since the last reset, the oldest first. */
  webhooks(): Promise<WebhookCall[]>;
  /** Ends the server. Its database is removed. */
  stop(): Promise<void>;
}

/** Resolves once the server answers. Rejects with the end of its log if it does not start. */
export declare function start(options?: StartOptions): Promise<TestServer>;
