import type { LookupFunction } from 'node:net';
import type { ModulesContainer } from '@nestjs/core';
import type { EventEmitter2 } from '@nestjs/event-emitter';
import type { DataSource } from 'typeorm';
import type { WebhookArchive } from './archive/webhook-archive.js';
import type { WebhookClock } from './clock.js';
import type { EntityRegistry } from './entities/entity-registry.js';
import type { PayloadFormat } from './events/payload-format.js';
import type { RetrySchedule } from './health/retry-schedule.js';
import type { ResolvedWebhooksOptions } from './options/resolve-options.js';
import type { WebhookTransport } from './sending/transport.js';
import type { SignatureScheme } from './signing/signature-scheme.js';

/** `worker`: a process that only sends. It has no entities but those in trigger mode, and needs no EventEmitter2. */
export type InstanceRole = 'application' | 'worker';

/** The parts that Nest injects into an instance. */
export interface RuntimeParts {
  /** Name of the data source, and of the instance. */
  readonly name: string;
  readonly role: InstanceRole;
  readonly options: ResolvedWebhooksOptions;
  readonly dataSource: DataSource;
  readonly registry: EntityRegistry;
  readonly emitter: EventEmitter2 | undefined;
  readonly clock: WebhookClock;
  readonly transport: WebhookTransport;
  readonly retrySchedule: RetrySchedule;
  /** `null`: old rows are deleted and not archived. */
  readonly archive: WebhookArchive | null;
  readonly payloadFormats: readonly PayloadFormat[];
  readonly signatureSchemes: readonly SignatureScheme[];
  readonly lookup: LookupFunction;
  readonly modules: ModulesContainer;
}
