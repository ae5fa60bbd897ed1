import { createHmac } from 'node:crypto';

export const SECRET = Buffer.alloc(32, 1);
/** Fills a payload up to 1 KB. */
export const FILLING = 'y'.repeat(900);
/** The body that the alternatives send, as long as the payload of a `Parcel`. */
export const BODY = JSON.stringify({
  type: 'parcel.created',
  timestamp: new Date(0).toISOString(),
  data: { id: 100_000, topic: 10, text: FILLING },
});

/** The headers of a webhook for the alternatives, signed with the Standard Webhooks scheme for each request. */
export function signed(id: string, body: string, secret: Buffer): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const signature = createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64');
  return {
    'content-type': 'application/json',
    'user-agent': 'bench',
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${signature}`,
  };
}
