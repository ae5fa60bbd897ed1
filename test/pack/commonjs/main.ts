// Compiled as CommonJS, with each `module` option that Nest applications use. Every entry point has types there, and `require()` loads it.
import { WebhooksModule } from 'nestjs-entity-webhooks';
import { webhookCatalog } from 'nestjs-entity-webhooks/catalog';
import { WebhooksApiModule } from 'nestjs-entity-webhooks/api';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { IncomingWebhooksModule } from 'nestjs-entity-webhooks/receiver/nest';
import { drain } from 'nestjs-entity-webhooks/testing';
import { WebhooksVerifyModule } from 'nestjs-entity-webhooks/verify';

const loaded = [
  WebhooksModule,
  webhookCatalog,
  WebhooksApiModule,
  createWebhooksClient,
  webhookMigrations,
  verifyIncomingWebhook,
  IncomingWebhooksModule,
  drain,
  WebhooksVerifyModule,
];
if (!loaded.every((one) => typeof one === 'function')) throw new Error('an entry point lacks an export');
console.log(`require() loads ${loaded.length} exports`);
