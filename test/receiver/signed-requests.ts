import { createHmac } from 'node:crypto';

import { Webhook } from 'standardwebhooks';

/** Headers that the reference implementation of Standard Webhooks creates. */
export function signedByStandard(
  secret: string,
  body: string,
  { id = 'evt_1', at = Date.now() }: { id?: string; at?: number } = {},
): Record<string, string> {
  const seconds = Math.floor(at / 1_000);
  return {
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': new Webhook(secret).sign(id, new Date(seconds * 1_000), body),
  };
}

/** The header `t=…,v1=…` that Stripe's documentation describes. */
export function signedByStripe(secret: string, body: string, at = Date.now()): Record<string, string> {
  const seconds = Math.floor(at / 1_000);
  const hmac = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex');
  return { 'stripe-signature': `t=${seconds},v1=${hmac},v0=${'0'.repeat(64)}` };
}

export function signedByGithub(secret: string, body: string, delivery = 'd-1'): Record<string, string> {
  const hmac = createHmac('sha256', secret).update(body).digest('hex');
  return { 'x-hub-signature-256': `sha256=${hmac}`, 'x-github-delivery': delivery, 'x-github-event': 'push' };
}

export function signedByGoogleCode(secret: string, body: string): Record<string, string> {
  return { 'google-code-project-hosting-hook-hmac': createHmac('md5', secret).update(body).digest('hex') };
}
