import { JSON_CONTENT_TYPE, type PayloadFormat } from '../events/payload-format.js';
import { causeHeaders } from './cause-headers.js';
import { signingSecrets } from '../listeners/stored-secrets.js';
import type { SignedRequest } from '../sending/transport.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import type { ClaimedDelivery } from '../store/claim-deliveries.js';

/** What signing needs to know beside the delivery. */
export interface Signers {
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  readonly formats: ReadonlyMap<string, PayloadFormat>;
  readonly timeoutMs: number;
}

/**
 * A delivery as the request of one attempt: the stored bytes, signed at `now` by each of the listener's schemes with each of
 * its present secrets.
 *
 * @throws when a scheme does, or is not registered any more
 */
export function signDelivery(delivery: ClaimedDelivery, now: number, signers: Signers): SignedRequest {
  const body = Buffer.from(delivery.body, 'utf8');
  const timestamp = Math.floor(now / 1_000);
  const secrets = signingSecrets(delivery.listener.secrets, now);
  const { id } = delivery.event;
  const headers: Record<string, string> = {
    ...delivery.listener.headers,
    'content-type': signers.formats.get(delivery.listener.format)?.contentType ?? JSON_CONTENT_TYPE,
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
  };
  if (delivery.listener.sendsSequence) headers['webhook-sequence'] = delivery.event.seq;
  Object.assign(headers, causeHeaders(delivery.event.context));
  for (const name of delivery.listener.schemes) {
    const scheme = signers.schemes.get(name);
    if (!scheme) throw new Error(`there is no signature scheme '${name}' in this application`);
    Object.assign(headers, scheme.sign({ id, timestamp, body, secrets }));
  }
  return { url: delivery.listener.url, headers, body, timeoutMs: signers.timeoutMs };
}
