import type { ConnectionOptions } from 'bullmq';
import { isObject, milliseconds, option, required, resolveTable, whole, type OptionTable } from '../option-table.js';
import { HOUR, SECOND } from '../time.js';

/** The options of `bullmqEngine()`. */
export interface BullmqEngineOptions {
  /**
   * How to connect to Redis or Valkey: what BullMQ takes as `connection`. Options of ioredis, such as `{ host, port, password }` or
   * `{ url }`, or a client with `maxRetriesPerRequest: null`. The engine closes the connections that it makes, and leaves a client open.
   *
   * @example bullmqEngine({ connection: { url: process.env.REDIS_URL } })
   */
  connection: ConnectionOptions;
  /** Prefix of all keys in Redis, as in BullMQ. @defaultValue 'bull' */
  prefix?: string;
  /**
   * How many jobs a busy listener may have at the same time. With more than one, several processes send to one listener at the same time.
   * 1 to 16.
   *
   * @defaultValue 1
   */
  shards?: number;
  /** After this time without an answer of Redis, processes search the database, in ms. 1 second to 1 hour. @defaultValue 10_000 */
  fallbackAfterMs?: number;
  /**
   * How often one of the processes compares the queue with the database, in ms. A listener whose job was lost waits for up to this time.
   * 1 second to 1 hour.
   *
   * @defaultValue 30_000
   */
  reconcileEveryMs?: number;
}

/** The options with every default filled in. */
export type ResolvedEngineOptions = ReturnType<typeof resolveEngineOptions>;

/** Every option of `bullmqEngine()`. */
export const BULLMQ_OPTIONS = {
  connection: required<ConnectionOptions>({
    allowed: "options of ioredis such as { host: '127.0.0.1' }, or a client with `maxRetriesPerRequest: null`",
    isAllowed: (given) => isObject(given) && waitsForRedis(given),
    isSecret: true, // it may contain a password
  }),
  prefix: option<string>('bull', {
    allowed: "a text of 1 to 128 characters such as 'bull'",
    isAllowed: (given) => typeof given === 'string' && given.length > 0 && given.length <= 128,
  }),
  shards: whole(1, [1, 16]),
  fallbackAfterMs: milliseconds(10 * SECOND, [SECOND, HOUR]),
  reconcileEveryMs: milliseconds(30 * SECOND, [SECOND, HOUR]),
} satisfies OptionTable<BullmqEngineOptions>;

/** @throws ConfigurationError `INVALID_OPTION` */
export function resolveEngineOptions(given: BullmqEngineOptions) {
  return resolveTable(BULLMQ_OPTIONS, given, { name: 'bullmqEngine()' });
}

/** A worker of BullMQ refuses an ioredis client that stops trying a command: it waits for jobs with a command. */
function waitsForRedis({ options }: Record<string, unknown>): boolean {
  return !isObject(options) || !options['maxRetriesPerRequest'];
}
