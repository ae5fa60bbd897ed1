import { randomBytes } from 'node:crypto';
import { Module } from '@nestjs/common';
import { MANAGE, WebhooksApiModule } from 'nestjs-entity-webhooks/api';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { WebhooksDashboardModule } from 'nestjs-entity-webhooks/dashboard';

const HOUR = 3_600_000;
const SESSION_MS = 8 * HOUR;

/** The login of the demo: only this process knows it. In an application, `access()` asks your own login. */
const LOGIN = randomBytes(32).toString('base64url');

/** The pages of operators and of customers, at /webhooks/dashboard and /webhooks/portal. */
@Module({
  imports: [
    WebhooksApiModule.forRoot({
      access: ({ headers }: { headers: Readonly<Record<string, unknown>> }) =>
        headers['x-demo-login'] === LOGIN ? { kind: 'operator', actor: 'demo' } : null,
      sessions: { keys: [{ id: 'demo', key: randomBytes(32).toString('base64') }] },
    }),
    WebhooksDashboardModule.forRoot({ portal: {} }),
  ],
})
export class DashboardModule {}

/** The URLs of both pages, with a session each: whoever opens them is logged in. */
export async function pageUrls(baseUrl: string, owner: string): Promise<{ dashboard: string; portal: string }> {
  const pages = `${baseUrl}/webhooks`;
  const client = createWebhooksClient({ url: `${pages}/v1`, headers: { 'x-demo-login': LOGIN } });
  const { can } = await client.getMe();
  const rights = can.filter((one) => one !== 'sessions:create');
  const [operator, customer] = await Promise.all([
    client.createSession({ body: { kind: 'operator', actor: 'demo', can: rights, expiresInMs: SESSION_MS } }),
    client.createSession({ body: { kind: 'owner', owner, can: MANAGE, expiresInMs: SESSION_MS } }),
  ]);
  return { dashboard: `${pages}/dashboard#t=${operator.token}`, portal: `${pages}/portal#t=${customer.token}` };
}
