import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';

export const COLOURS = ['red', 'green', 'blue'] as const;
/** For the rows that all processes change. */
export const SHARED_COLOUR = 'white';

/** The rows that the writers change. */
@Webhook()
@Entity('crash_parcel')
export class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  /** The name of the last change. Each change of a run has a different name. */
  @Column({ type: 'varchar', length: 60 })
  change: string;

  @Column({ type: 'varchar', length: 10 })
  colour: string;
}

/** The changes, each written in the same transaction as the change itself. A row that exists at the end was committed. */
@Entity('crash_audit')
export class Audit {
  @PrimaryColumn({ type: 'varchar', length: 30 })
  type: string;

  @PrimaryColumn({ type: 'varchar', length: 60 })
  change: string;

  @Column({ type: 'varchar', length: 10 })
  colour: string;
}

/** The options of a worker, as JSON in the environment variable `CRASH_WORKER`. */
export interface WorkerOptions {
  database: object;
  /** Without it, receivers on loopback are allowed. */
  security?: object;
  /** Each process of a run has a different name. */
  name: string;
  seed: number;
  /** Whether it also sends, or only writes. */
  autoStart: boolean;
  dispatcher: object;
  /** Rows that every worker changes; ids from 1. */
  sharedRows: number;
}

/** A small seeded generator (mulberry32). @returns numbers of at least 0 and below 1 */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
