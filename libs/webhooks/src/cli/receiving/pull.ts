import type { StreamEvent } from '../../client/stream-events.js';
import {
  createWebhooksClient,
  WebhooksApiError,
  type WebhooksClient,
  type WebhooksClientOptions,
} from '../../client/webhooks-client.js';
import { matchesPattern } from '../../events/event-type.js';
import { messageOf, oneLine } from '../../foreign-text.js';
import type { IncomingWebhookSchemeName } from '../../receiver/incoming-webhook-schemes.js';
import {
  generateSecret,
  GithubScheme,
  GoogleCodeScheme,
  StandardScheme,
  StripeScheme,
  type SignatureScheme,
} from '../../signing/index.js';
import { pause, SECOND } from '../../time.js';
import { colored, type ExitCode, type Terminal } from '../terminal/terminal.js';
import { diagnose } from './diagnose.js';
import { forward, type Forwarded } from './forward.js';
import { PullState } from './pull-state.js';

/** Options of {@link pull}. */
export interface PullOptions {
  /** The root of the API, with `/v1`. */
  readonly from: string;
  readonly listener: string;
  readonly token: string | undefined;
  /** The secret that signs the requests. If it is missing, a secret is made and stored in the state. */
  readonly secret: string | undefined;
  readonly scheme: IncomingWebhookSchemeName;
  readonly target: URL | null;
  readonly type?: string;
  readonly print: 'line' | 'full';
  readonly json?: boolean;
  /** The file for the state. @defaultValue a file in the home folder of the user */
  readonly state?: string;
}

type Delivery = Extract<StreamEvent, { event: 'delivery' }>['data']['delivery'];

const SIGNERS: Readonly<Record<IncomingWebhookSchemeName, () => SignatureScheme>> = {
  standard: () => new StandardScheme(),
  stripe: () => new StripeScheme(),
  github: () => new GithubScheme(),
  'google-code': () => new GoogleCodeScheme(),
};

/**
 * Reads the deliveries of a listener from the API, signs them with a local secret, prints them and forwards them, until the process ends.
 * The sender need not be able to reach this machine. After a lost connection or a restart, the function continues where it stopped.
 *
 * @throws WebhooksApiError if the API refuses a request
 */
export async function pull(options: PullOptions, terminal: Terminal): Promise<ExitCode> {
  const { from, listener: id, token } = options;
  const access = { url: from, ...(token === undefined ? {} : { token }) };
  const client = createWebhooksClient(access);
  const { url } = await client.getListener({ id });
  const state = await PullState.open([from, id], options.state);
  const secret = await secretOf(options, state, terminal);
  terminal.err(`Reading the deliveries to ${oneLine(url)}. Press Ctrl-C to end.`);
  await new Pull(client, access, { ...options, secret }, state, terminal).run();
  return 0;
}

async function secretOf({ secret }: PullOptions, state: PullState, terminal: Terminal): Promise<string> {
  if (secret !== undefined) return secret;
  const kept = state.secret ?? generateSecret();
  if (state.secret === undefined) await state.keepSecret(kept);
  terminal.err(`Signing with ${kept}: give this secret to your server.`);
  return kept;
}

class Pull {
  private readonly end = new AbortController();
  private caughtUp = 0;
  /** The last event that was handled before the current connection; `undefined` if none was handled. */
  private resumedAfter: string | undefined;

  constructor(
    private readonly client: WebhooksClient,
    private readonly access: WebhooksClientOptions,
    private readonly options: PullOptions & { readonly secret: string },
    private readonly state: PullState,
    private readonly terminal: Terminal,
  ) {}

  async run(): Promise<void> {
    const end = () => this.end.abort();
    process.once('SIGINT', end).once('SIGTERM', end);
    try {
      for await (const event of this.open()) await this.handle(event);
    } finally {
      process.off('SIGINT', end).off('SIGTERM', end);
    }
  }

  private open(): AsyncIterable<StreamEvent> {
    const { lastId } = this.state;
    return this.client.stream(
      { listenerId: this.options.listener },
      {
        signal: this.end.signal,
        ...(lastId === undefined ? {} : { lastId }),
        onPosition: (position) => void this.state.keepPosition(position),
        onOpen: () => {
          this.caughtUp = 0;
          this.resumedAfter = this.state.eventId;
        },
        onCurrent: () => {
          if (this.resumedAfter === undefined) return;
          this.terminal.err(`resumed after ${this.resumedAfter}, ${this.caughtUp} caught up`);
        },
        onLost: (error) => this.terminal.err(`The connection is lost (${oneLine(messageOf(error))}). Trying again.`),
      },
    );
  }

  private async handle({ event, data }: StreamEvent): Promise<void> {
    if (event === 'reset') await this.readLog(data.since);
    // A later attempt is a retry of what was handled before.
    else if (event === 'delivery' && (data.attempt?.number ?? 1) === 1) await this.deliver(data.delivery);
  }

  /** Reads the delivery log, because there were more deliveries than the stream sends. */
  private async readLog(since: string): Promise<void> {
    const missed: Delivery[] = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<WebhooksClient['listDeliveries']>> = await this.client.listDeliveries({
        query: { listenerId: this.options.listener, since, limit: 200, ...(cursor === null ? {} : { cursor }) },
      });
      missed.push(...page.items);
      cursor = page.next;
    } while (cursor !== null);
    for (const delivery of missed.toReversed()) await this.deliver(delivery);
  }

  private async deliver(delivery: Delivery): Promise<void> {
    const { id, eventId, type } = delivery;
    const { type: pattern, target } = this.options;
    if (this.state.hasHandled(id)) return;
    if (pattern === undefined || matchesPattern(pattern, type)) {
      const content = await this.contentOf(id);
      // The event was deleted after its retention period, or its content was erased.
      if (!content) return this.terminal.err(`${type} ${eventId} has no body any more`);
      const request = this.signed(delivery, content);
      const verdict = await this.verdictOf(request);
      const forwarded = target && (await forward(target, { method: 'POST', ...request }));
      this.report(delivery, { ...request, verdict, forwarded });
      this.caughtUp += 1;
    }
    await this.state.keepHandled(id, eventId);
  }

  /** The bytes that the sender signs, and their content type. Retries until the API answers, so that no delivery is missed. */
  private async contentOf(id: string): Promise<Content | null> {
    for (;;) {
      try {
        return await contentOf(this.access, id);
      } catch (error) {
        const status = error instanceof WebhooksApiError ? error.status : 503;
        if (status === 404 || status === 410) return null;
        if ((status < 500 && status !== 429) || this.end.signal.aborted) throw error;
        await pause(2 * SECOND);
      }
    }
  }

  /** A request with a signature by the local secret. */
  private signed({ eventId }: Delivery, { body, contentType }: Content): SignedRequest {
    const { scheme, secret } = this.options;
    const timestamp = Math.floor(Date.now() / SECOND);
    const signature = SIGNERS[scheme]().sign({ id: eventId, timestamp, body, secrets: [secret] });
    const names = { 'webhook-id': eventId, 'webhook-timestamp': String(timestamp) };
    return { headers: { 'content-type': contentType, ...names, ...signature }, body };
  }

  private async verdictOf({ headers, body }: SignedRequest): Promise<string> {
    const { scheme, secret } = this.options;
    const request = { headers, body, secrets: [secret], scheme, now: Date.now(), toleranceSeconds: 300 };
    const { isValid, message } = await diagnose(request);
    return isValid ? `verified ${scheme === 'standard' ? 'v1' : scheme}` : `NOT VALID: ${message}`;
  }

  private report({ type, eventId }: Delivery, sent: Sent): void {
    const { json, print, target } = this.options;
    const { verdict, forwarded, headers, body } = sent;
    if (json) {
      const shown = forwarded && { ...forwarded, body: forwarded.body.toString('utf8') };
      const line = { at: new Date(), type, eventId, headers, body: body.toString('utf8'), verdict, forwarded: shown };
      this.terminal.out(JSON.stringify(line));
      return;
    }
    const line = oneLine(
      `${new Date().toTimeString().slice(0, 8)} ${type} ${eventId} ${verdict}${goal(target, forwarded)}`,
    );
    const isFine = !forwarded || (forwarded.status ?? 0) < 300;
    this.terminal.out(isFine ? line : colored(this.terminal, 'red', line));
    if (print === 'full') for (const text of fullLines(sent)) this.terminal.out(oneLine(text));
  }
}

interface Content {
  readonly body: Buffer;
  readonly contentType: string;
}

interface SignedRequest {
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

interface Sent extends SignedRequest {
  readonly verdict: string;
  readonly forwarded: Forwarded | null;
}

function goal(target: URL | null, forwarded: Forwarded | null): string {
  if (!target || !forwarded) return '';
  const { status, error, durationMs } = forwarded;
  const place = `${target.host}${target.pathname}${target.search}`;
  return ` -> POST ${place} ${status ?? `failed: ${error}`} (${durationMs} ms)`;
}

function fullLines({ headers, body }: Sent): string[] {
  const lines = Object.entries(headers).map(([name, value]) => `  ${name}: ${value}`);
  return [
    ...lines,
    '',
    ...body
      .toString('utf8')
      .split('\n')
      .map((row) => `  ${row}`),
  ];
}

/** The client returns only the body, so this function reads the content type from the header of the answer. */
async function contentOf(access: WebhooksClientOptions, id: string): Promise<Content> {
  let contentType = 'application/json';
  const client = createWebhooksClient({
    ...access,
    async fetch(input, init) {
      const response = await fetch(input, init);
      contentType = response.headers.get('x-webhooks-content-type') ?? contentType;
      return response;
    },
  });
  const body = Buffer.from(await client.getDeliveryBody({ id }));
  return { body, contentType };
}
