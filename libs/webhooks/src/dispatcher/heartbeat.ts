import { hostname } from 'node:os';
import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import { messageOf } from '../foreign-text.js';
import { newId } from '../ids.js';
import { VERSION } from '../sending/user-agent.js';
import type { Database } from '../store/database/database.js';
import { deleteProcess, HEARTBEAT_MS, writeProcess } from '../store/system/processes.js';
import type { Lanes } from './lanes.js';
import { Signal } from './signal.js';

export interface HeartbeatParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly logger: LoggerService;
  readonly lanes: Lanes;
  readonly concurrency: number;
}

/** Length of the column. */
const MAX_HOST_LENGTH = 191;

/**
 * Keeps the row of a process whose loop runs: one small transaction each 15 seconds, and none for deliveries. So operators see which
 * processes dispatch, and which of them died.
 */
export class Heartbeat {
  private readonly signal = new Signal();
  private beating: Promise<void> | null = null;
  private isStopping = false;

  constructor(private readonly parts: HeartbeatParts) {}

  /** Does nothing if it was started already. */
  start(): void {
    if (this.beating) return;
    this.isStopping = false;
    this.beating = this.run();
  }

  /** Deletes the row, because the process stops in good order. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.signal.raise();
    await this.beating;
    this.beating = null;
  }

  private async run(): Promise<void> {
    const { database, clock } = this.parts;
    const id = newId('prc');
    const startedAt = clock.now();
    while (!this.isStopping) {
      await this.guarded(() => database.transaction(() => writeProcess(database, this.row(id, startedAt)), 'work'));
      if (!this.isStopping) await this.signal.wait(HEARTBEAT_MS);
    }
    await this.guarded(() => database.single(() => deleteProcess(database, id), 'work'));
  }

  private row(id: string, startedAt: number) {
    const { clock, lanes, concurrency } = this.parts;
    const host = hostname().slice(0, MAX_HOST_LENGTH);
    return { id, host, version: VERSION, startedAt, seenAt: clock.now(), sending: lanes.sending, concurrency };
  }

  /** A process without a row still works, and the loop logs an outage of the database. */
  private async guarded(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.parts.logger.debug?.(`The row of this process could not be written: ${messageOf(error)}`);
    }
  }
}
