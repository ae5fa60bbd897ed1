import type { MigrationInterface, QueryRunner } from 'typeorm';
import { inState, isSet, isUnfinishedAndOrdered } from '../store/database/tables.js';
import { tablePathOf, type WebhookTablesOptions } from '../store/database/table-names.js';
import { createSchema, createTable, migrationName, type FrozenTable } from '../store/database/create-table.js';
import { dataSourceOf } from '../typeorm-compat.js';

/**
 * The first tables. Events are the outbox, written by the application's transactions; the other tables belong to the dispatcher and the
 * listener service. There are no foreign keys between them: together with counters they cause deadlocks on MariaDB.
 * `docs/decisions/0001-tables.md` gives the reason for each column.
 */
const TABLES: readonly FrozenTable[] = [
  {
    name: 'events',
    columns: {
      seq: 'sequence',
      id: 'id',
      type: 'name',
      superTypes: 'text?',
      state: 'state',
      audience: 'state',
      owner: 'owner?',
      ownerKey: 'hash?',
      orderKey: 'hash?',
      ordered: 'flag',
      dedupeKey: 'hash?',
      payload: 'text',
      thinPayload: 'text?',
      droppedFields: 'text?',
      routedThrough: 'id?',
      context: 'text?',
      createdAt: 'milliseconds',
    },
    unique: [['id'], { of: ['dedupeKey'], where: isSet('dedupeKey'), mysql: ['dedupeKey'] }],
    indexes: [
      { of: ['seq'], where: inState('pending'), mysql: ['state', 'seq'] },
      { of: ['seq'], where: inState('routing'), mysql: null },
      ['createdAt'],
      {
        of: ['ownerKey', 'createdAt', 'seq'],
        where: isSet('ownerKey'),
        mysql: ['ownerKey', 'createdAt', 'seq'],
      },
    ],
  },
  {
    name: 'listeners',
    columns: {
      seq: 'sequence',
      id: 'id',
      owner: 'owner?',
      ownerKey: 'hash?',
      url: 'text',
      patterns: 'text',
      filter: 'text',
      definition: 'text',
      name: 'text?',
      externalId: 'text?',
      externalKey: 'hash?',
      metadata: 'text?',
      description: 'text?',
      headers: 'text',
      secrets: 'text',
      schemes: 'text',
      auth: 'text?',
      tls: 'text?',
      format: 'name',
      ordering: 'state',
      sequence: 'flag',
      rateLimit: 'text?',
      handshake: 'state',
      handshakeError: 'name?',
      allowedRate: 'integer?',
      state: 'state',
      disabledReason: 'text?',
      afterSeq: 'reference',
      createdAt: 'milliseconds',
      updatedAt: 'milliseconds',
      deletedAt: 'milliseconds?',
    },
    unique: [['id'], { of: ['externalKey'], where: isSet('externalKey'), mysql: ['externalKey'] }],
    indexes: [
      ['ownerKey', 'createdAt', 'seq'],
      ['createdAt', 'seq'],
      { of: ['createdAt', 'seq'], where: inState('disabled'), mysql: ['state', 'createdAt', 'seq'] },
      { of: ['deletedAt'], where: isSet('deletedAt'), mysql: ['deletedAt'] },
    ],
  },
  {
    name: 'routes',
    columns: { seq: 'sequence', key: 'hash', listenerId: 'id' },
    unique: [['key', 'listenerId']],
    indexes: [['listenerId']],
  },
  {
    name: 'routePaths',
    columns: { seq: 'sequence', pattern: 'name', path: 'name' },
    unique: [['pattern', 'path']],
    indexes: [],
  },
  {
    name: 'deliveries',
    columns: {
      seq: 'sequence',
      id: 'id',
      eventSeq: 'reference',
      listenerId: 'id',
      type: 'name',
      owner: 'owner?',
      ownerKey: 'hash?',
      orderKey: 'hash?',
      state: 'state',
      body: 'text?',
      format: 'name?',
      attempts: 'integer',
      retries: 'integer',
      nextAt: 'milliseconds',
      leaseToken: 'id?',
      leaseUntil: 'milliseconds?',
      lastStatus: 'integer?',
      lastErrorCode: 'name?',
      createdAt: 'milliseconds',
      finishedAt: 'milliseconds?',
      deletedAt: 'milliseconds?',
    },
    unique: [['id'], ['eventSeq', 'listenerId']],
    indexes: [
      {
        of: ['listenerId', 'nextAt', 'seq'],
        where: inState('due'),
        mysql: ['listenerId', 'state', 'nextAt', 'seq'],
      },
      { of: ['leaseUntil'], where: inState('leased'), mysql: ['state', 'leaseUntil'] },
      {
        of: ['listenerId', 'orderKey', 'eventSeq'],
        where: isUnfinishedAndOrdered,
        mysql: ['listenerId', 'orderKey', 'state', 'eventSeq'],
      },
      ['listenerId', 'createdAt', 'seq'],
      { of: ['createdAt', 'seq'], where: inState('exhausted'), mysql: null },
      {
        of: ['ownerKey', 'createdAt', 'seq'],
        where: isSet('ownerKey'),
        mysql: ['ownerKey', 'createdAt', 'seq'],
      },
      ['createdAt', 'seq'],
    ],
  },
  {
    name: 'attempts',
    columns: {
      seq: 'sequence',
      deliverySeq: 'reference',
      number: 'integer',
      outcome: 'state',
      status: 'integer?',
      errorCode: 'name?',
      errorDetail: 'text?',
      durationMs: 'integer',
      response: 'text?',
      superseded: 'flag',
      startedAt: 'milliseconds',
    },
    unique: [],
    indexes: [['deliverySeq', 'seq']],
  },
  {
    name: 'listenerState',
    columns: {
      seq: 'sequence',
      listenerId: 'id',
      readyAt: 'milliseconds?',
      failuresInARow: 'integer',
      failingSince: 'milliseconds?',
      failuresCountFrom: 'milliseconds?',
      pausedUntil: 'milliseconds?',
      rateTaken: 'text?',
      handshakeAt: 'milliseconds?',
      handshakeFrom: 'milliseconds?',
      handshakeTries: 'integer',
    },
    unique: [['listenerId']],
    indexes: [['readyAt', 'seq']],
  },
  {
    name: 'chores',
    columns: {
      seq: 'sequence',
      name: 'name',
      leaseToken: 'id?',
      leaseUntil: 'milliseconds',
      dueAt: 'milliseconds',
      position: 'reference',
    },
    unique: [['name']],
    indexes: [],
  },
  {
    name: 'images',
    columns: {
      seq: 'sequence',
      tablePath: 'name',
      op: 'state',
      oldRow: 'text?',
      newRow: 'text?',
      context: 'text?',
      mergeKey: 'name?',
      createdAt: 'milliseconds',
      reason: 'text?',
    },
    unique: [],
    indexes: [{ of: ['mergeKey', 'seq'], where: isSet('mergeKey'), mysql: ['mergeKey', 'seq'] }],
  },
  {
    name: 'schemaVersion',
    columns: { seq: 'sequence', version: 'integer', oldestProcess: 'integer' },
    unique: [],
    indexes: [],
  },
];

/** TypeORM reads a migration's time from the last 13 digits of its name. */
const CREATED = '1795478400000';

/** Creates the migration class for one table prefix. The prefix is part of its name, so that two instances do not clash. */
export function createTablesMigration(at: WebhookTablesOptions): new () => MigrationInterface {
  return class CreateWebhookTables implements MigrationInterface {
    readonly name = migrationName('CreateWebhookTables', at, CREATED);

    async up(runner: QueryRunner): Promise<void> {
      await createSchema(runner, at);
      for (const table of TABLES) await createTable(runner, at, table);
    }

    async down(runner: QueryRunner): Promise<void> {
      for (const table of TABLES.toReversed()) {
        await runner.dropTable(tablePathOf(dataSourceOf(runner), at, table.name), true);
      }
    }
  };
}
