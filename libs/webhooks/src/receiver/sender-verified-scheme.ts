import {
  type IncomingWebhookProof,
  type IncomingWebhookRequest,
  IncomingWebhookScheme,
} from './incoming-webhook-scheme.js';
import { assertRecent, idOf, timestampOf } from './verify-incoming-webhook.js';
import { questionOf, verifyWithSender, type VerifyWithSenderOptions } from './verify-with-sender.js';
import { IncomingWebhookError } from './incoming-webhook-error.js';

/**
 * A scheme for a receiver without a secret. Each request is sent back to the verify view of the sender, see {@link
 * verifyWithSender}. The deduplication key is the id of the event. This id is safe, because the view compares the body with the
 * body that was sent with this id.
 *
 * The view also confirms old webhooks, and webhooks that were sent to other receivers. To prevent replays, turn on the
 * inbox.
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
    // Check the age first, because no request to the sender is needed for a webhook that is too old.
    assertRecent(timestamp, { now: nowSeconds * 1_000, toleranceSeconds });
    if (!(await verifyWithSender(this.url, { ...this.options, headers, body }))) {
      throw new IncomingWebhookError('SIGNATURE_MISMATCH', 'The sender reports that it did not send this webhook.');
    }
    return { id, timestamp };
  }
}
