import { ServiceUnavailableException, UnauthorizedException } from '@nestjs/common';
import type { EventEmitter2 } from '@nestjs/event-emitter';
import type { WebhookClock } from '../../clock.js';
import { ConfigurationError } from '../../errors.js';
import { knownNames } from '../../known-names.js';
import { rawBodyOf, type ReceivedRequest } from '../../raw-body/raw-body.js';
import type { IncomingWebhookProof } from '../incoming-webhook-scheme.js';
import { lowerCaseHeaders } from '../verify-incoming-webhook.js';
import { SenderUnavailableError } from '../verify-with-sender.js';
import { IncomingWebhookError, type IncomingWebhookErrorCode } from '../incoming-webhook-error.js';
import { publishReceived } from '../incoming-webhook-channel.js';
import { IncomingWebhookMessage } from './incoming-webhook-message.js';
import type { IncomingWebhookInbox } from './incoming-webhook-inbox.js';
import type { ResolvedIncomingWebhooksOptions, ResolvedSource } from './incoming-webhooks-options.js';
import { TroubleLog, WebhooksLogger } from '../../webhooks-logger.js';

/** Names of the in-process events that the module emits, if the application has an EventEmitter2. */
export const INCOMING_WEBHOOK_EVENTS = { rejected: 'webhooks.incoming.rejected' } as const;

/**
 * This event is emitted as `webhooks.incoming.rejected`. It is for logs and metrics of the receiver. The sender of the request
 * gets only a plain 401.
 */
export interface IncomingWebhookRejectedEvent {
  readonly source: string;
  readonly code: IncomingWebhookErrorCode;
  /** A sentence with the meaning of `code`. The sentence contains no part of the request. */
  readonly reason: string;
  /** The remote address of the connection. This is the address of the sender, or of a proxy in front of this application. */
  readonly remoteAddress: string | undefined;
}

/** @internal */
export interface VerifierParts {
  readonly options: ResolvedIncomingWebhooksOptions;
  readonly clock: WebhookClock;
  readonly inbox: IncomingWebhookInbox;
  readonly emitter: EventEmitter2 | undefined;
}

/** @internal */
export const MODULE = 'IncomingWebhooksModule';

/** Verifies requests. The verifier returns a webhook, or rejects the request. @internal */
export class IncomingWebhookVerifier {
  private readonly logger = new WebhooksLogger('IncomingWebhooks');
  /**
   * Limits the log lines about sources whose sender was unavailable. Without a limit, every request from anyone would write a line into
   * the log.
   */
  private readonly unavailable = new Map<string, TroubleLog>();

  constructor(private readonly parts: VerifierParts) {}

  /** @throws ConfigurationError `UNKNOWN_SOURCE` */
  assertSource(name: string): void {
    const { sources } = this.parts.options;
    if (sources.has(name)) return;
    throw new ConfigurationError(
      'UNKNOWN_SOURCE',
      `@VerifyIncomingWebhook('${name}') names an unknown source.${knownNames(name, [...sources.keys()])} Use one of these names, or add sources.${name} to the options of ${MODULE}.`,
    );
  }

  /**
   * @throws UnauthorizedException without a reason, if the request is not a genuine webhook
   * @throws ServiceUnavailableException if the scheme asks the sender, and the sender returned no verdict
   * @throws ConfigurationError `RAW_BODY_MISSING`
   */
  async receive(name: string, request: ReceivedRequest): Promise<IncomingWebhookMessage> {
    const { options, clock, inbox } = this.parts;
    const source = options.sources.get(name) as ResolvedSource;
    const body = await rawBodyOf(request, options.maxBodyBytes, MODULE);
    const headers = lowerCaseHeaders(request.headers);
    let proof: IncomingWebhookProof;
    try {
      proof = await source.scheme.verify({
        headers,
        body,
        secrets: source.secrets,
        nowSeconds: Math.floor(clock.now() / 1_000),
        toleranceSeconds: source.toleranceSeconds,
      });
    } catch (error) {
      if (error instanceof IncomingWebhookError) throw this.rejected(name, error, request);
      if (!(error instanceof SenderUnavailableError)) throw error;
      throw this.noVerdict(name, error);
    }
    if (this.unavailable.get(name)?.recovered()) this.logger.log(`Webhooks from ${name} can be verified again.`);
    publishReceived(name, 'verified');
    const parts = { source: name, ...proof, rawBody: body, headers: Object.freeze(headers), payload: parsed(body) };
    const webhook = new IncomingWebhookMessage(parts, inbox);
    return source.id ? new IncomingWebhookMessage({ ...parts, id: ownId(source, webhook) }, inbox) : webhook;
  }

  private rejected(source: string, { code, message }: IncomingWebhookError, request: ReceivedRequest): Error {
    this.logger.debug(`A request for the source ${source} was rejected: ${code}. ${message}`);
    const remoteAddress = (request.raw ?? (request as { socket?: { remoteAddress?: string } })).socket?.remoteAddress;
    publishReceived(source, 'rejected');
    this.emit({ source, code, reason: message, remoteAddress });
    return new UnauthorizedException();
  }

  private noVerdict(source: string, { message }: SenderUnavailableError): Error {
    const trouble = this.unavailable.get(source) ?? new TroubleLog();
    this.unavailable.set(source, trouble);
    if (trouble.failed()) {
      this.logger.warn(`A webhook from ${source} could not be verified, and was answered with 503: ${message}`);
    }
    return new ServiceUnavailableException();
  }

  /** Emits the event. An error of an event handler does not change the answer to the request. */
  private emit(lifecycleEvent: IncomingWebhookRejectedEvent): void {
    const failed = (error: unknown) =>
      this.logger.error(`A handler of ${INCOMING_WEBHOOK_EVENTS.rejected} threw: ${String(error)}`);
    try {
      this.parts.emitter?.emitAsync(INCOMING_WEBHOOK_EVENTS.rejected, lifecycleEvent).catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}

function ownId({ name, id }: ResolvedSource, webhook: IncomingWebhookMessage): string {
  const given: unknown = id?.(webhook);
  if (typeof given === 'string' && given !== '') return given;
  throw new ConfigurationError(
    'INVALID_OPTION',
    `\`sources.${name}.id\` of ${MODULE} returned ${given === '' ? 'an empty string' : `a value of type ${typeof given}`}. Allowed: a non-empty string that is the same when the sender repeats the webhook.`,
  );
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
