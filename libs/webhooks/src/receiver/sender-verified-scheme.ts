import {
  type IncomingWebhookProof,
  type IncomingWebhookRequest,
  IncomingWebhookScheme,
} from './incoming-webhook-scheme.js';
import { assertRecent, idOf, timestampOf } from './verify-incoming-webhook.js';
import { questionOf, verifyWithSender, type VerifyWithSenderOptions } from './verify-with-sender.js';
import { IncomingWebhookError } from './incoming-webhook-error.js';

/**
 * A scheme for a receiver without a secret: each request is sent back to the sender's verify view, see {@link verifyWithSender}.
 * The deduplication key is the event's id: the view compares the body with the one that it sent under this id.
 *
 * The view also confirms webhooks that were sent to other receivers, and old webhooks. Turn on the inbox against replays.
 *
 * @example scheme: new SenderVerifiedIncomingWebhookScheme('https://shop.example/webhooks/verify', { timeoutMs: 3_000 })
 */
export class SenderVerifiedIncomingWebhookScheme extends IncomingWebhookScheme {
  readonly name = 'sender-verified';
  override readonly hasSecrets = false;

  /** @throws ConfigurationError `INVALID_OPTION`, as {@link verifyWithSender} does */
  constructor(
    private readonly url: string,
    private readonly options: Omit<VerifyWithSenderOptions, 'headers' | 'body'> = {},
  ) {
    super();
    questionOf(url, options);
  }

  async verify({ headers, body, nowSeconds, toleranceSeconds }: IncomingWebhookRequest): Promise<IncomingWebhookProof> {
    const id = idOf(headers);
    const timestamp = timestampOf(headers);
    // Before the request to the sender, which would be wasted on a webhook that is too old.
    assertRecent(timestamp, { now: nowSeconds * 1_000, toleranceSeconds });
    if (!(await verifyWithSender(this.url, { ...this.options, headers, body }))) {
      throw new IncomingWebhookError('SIGNATURE_MISMATCH', 'The sender reports that it did not send this webhook.');
    }
    return { id, timestamp };
  }
}
