import { ServiceUnavailableException, UnauthorizedException } from '@nestjs/common';
import type { EventEmitter2 } from '@nestjs/event-emitter';
import type { Clock } from '../../clock.js';
import { ConfigurationError } from '../../errors.js';
import { knownNames } from '../../known-names.js';
import { rawBodyOf, type ReceivedRequest } from '../../raw-body/raw-body.js';
import type { IncomingProof } from '../incoming-scheme.js';
import { lowerCaseHeaders } from '../verify-webhook.js';
import { SenderUnavailableError } from '../verify-with-sender.js';
import { WebhookVerificationError, type WebhookVerificationCode } from '../webhook-verification-error.js';
import { ReceivedWebhook } from './received-webhook.js';
import type { WebhookInbox } from './webhook-inbox.js';
import type { ResolvedReceiverOptions, ResolvedSource } from './webhook-receiver-options.js';
import { WebhooksLogger } from '../../webhooks-logger.js';

/** Names of what a receiver emits on EventEmitter2, where the application has one. */
export const WEBHOOK_RECEIVER_FACTS = { rejected: 'webhooks.receiver.rejected' } as const;

/** Emitted as `webhooks.receiver.rejected`: for the receiver's own eyes, whoever asked is told no more than 401. */
export interface WebhookRejectedFact {
  readonly source: string;
  readonly code: WebhookVerificationCode;
  /** `code` in a sentence. Holds nothing of the request. */
  readonly reason: string;
  /** Where the connection comes from: the sender, or a proxy in front of this application. */
  readonly remoteAddress: string | undefined;
}

/** @internal */
export interface VerifierParts {
  readonly options: ResolvedReceiverOptions;
  readonly clock: Clock;
  readonly inbox: WebhookInbox;
  readonly emitter: EventEmitter2 | undefined;
}

/** @internal */
export const MODULE = 'WebhookReceiverModule';

/** Turns requests into webhooks, or refuses them. @internal */
export class WebhookVerifier {
  private readonly logger = new WebhooksLogger('WebhookReceiver');

  constructor(private readonly parts: VerifierParts) {}

  /** @throws ConfigurationError `UNKNOWN_SOURCE` */
  assertSource(name: string): void {
    const { sources } = this.parts.options;
    if (sources.has(name)) return;
    throw new ConfigurationError(
      'UNKNOWN_SOURCE',
      `@VerifyWebhook('${name}') names a source that the options of ${MODULE} do not have: add sources.${name}, or name another one.${knownNames(name, [...sources.keys()])}`,
    );
  }

  /**
   * @throws UnauthorizedException for what is not genuine, without a reason
   * @throws ServiceUnavailableException when a scheme that asks the sender got no answer
   * @throws ConfigurationError `RAW_BODY_MISSING`
   */
  async receive(name: string, request: ReceivedRequest): Promise<ReceivedWebhook> {
    const { options, clock, inbox } = this.parts;
    const source = options.sources.get(name) as ResolvedSource;
    const body = await rawBodyOf(request, options.maxBodyBytes, MODULE);
    const headers = lowerCaseHeaders(request.headers);
    let proof: IncomingProof;
    try {
      proof = await source.scheme.verify({
        headers,
        body,
        secrets: source.secrets,
        nowSeconds: Math.floor(clock.now() / 1_000),
        toleranceSeconds: source.toleranceSeconds,
      });
    } catch (error) {
      if (error instanceof WebhookVerificationError) throw this.rejected(name, error, request);
      if (!(error instanceof SenderUnavailableError)) throw error;
      this.logger.warn(`A webhook of ${name} waits: ${error.message}`);
      throw new ServiceUnavailableException();
    }
    const parts = { source: name, ...proof, rawBody: body, headers: Object.freeze(headers), payload: parsed(body) };
    const webhook = new ReceivedWebhook(parts, inbox);
    return source.id ? new ReceivedWebhook({ ...parts, id: ownId(source, webhook) }, inbox) : webhook;
  }

  private rejected(source: string, { code, message }: WebhookVerificationError, request: ReceivedRequest): Error {
    this.logger.debug(`A request to ${source} was refused: ${code}. ${message}`);
    const remoteAddress = (request.raw ?? (request as { socket?: { remoteAddress?: string } })).socket?.remoteAddress;
    this.emit({ source, code, reason: message, remoteAddress });
    return new UnauthorizedException();
  }

  /** A handler that throws changes nothing about the answer. */
  private emit(fact: WebhookRejectedFact): void {
    const failed = (error: unknown) =>
      this.logger.error(`A handler of ${WEBHOOK_RECEIVER_FACTS.rejected} threw: ${String(error)}`);
    try {
      this.parts.emitter?.emitAsync(WEBHOOK_RECEIVER_FACTS.rejected, fact).catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}

function ownId({ name, id }: ResolvedSource, webhook: ReceivedWebhook): string {
  const given: unknown = id?.(webhook);
  if (typeof given === 'string' && given !== '') return given;
  throw new ConfigurationError(
    'INVALID_OPTION',
    `The option sources.${name}.id of ${MODULE} gave ${given === '' ? 'an empty text' : typeof given} for a webhook: give a text that stays the same when it is sent again.`,
  );
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
