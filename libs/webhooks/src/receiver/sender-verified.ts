import { type IncomingProof, type IncomingRequest, IncomingScheme } from './incoming-scheme.js';
import { assertRecent, idOf, timestampOf } from './verify-webhook.js';
import { questionOf, verifyWithSender, type VerifyWithSenderOptions } from './verify-with-sender.js';
import { WebhookVerificationError } from './webhook-verification-error.js';

/**
 * A scheme for a receiver that holds no secret: each request is handed back to the sender's verify view, see
 * {@link verifyWithSender}. The id is the event's: the view compares it with the body that was sent under it.
 *
 * A webhook that was sent to somebody else is genuine here, too. Keep the inbox on: the view knows no age.
 *
 * @example scheme: new SenderVerified('https://shop.example/webhooks/verify', { timeoutMs: 3_000 })
 */
export class SenderVerified extends IncomingScheme {
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

  async verify({ headers, body, nowSeconds, toleranceSeconds }: IncomingRequest): Promise<IncomingProof> {
    const id = idOf(headers);
    const timestamp = timestampOf(headers);
    // Before the question: it spares the sender what would be refused anyway.
    assertRecent(timestamp, { now: nowSeconds * 1_000, toleranceSeconds });
    if (!(await verifyWithSender(this.url, { ...this.options, headers, body }))) {
      throw new WebhookVerificationError('SIGNATURE_MISMATCH', 'The sender says that it did not send this.');
    }
    return { id, timestamp };
  }
}
