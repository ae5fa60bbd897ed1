import { RetrySchedule } from 'nestjs-entity-webhooks';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** Retries after a minute, and then every hour for a day. */
export class HourlySchedule extends RetrySchedule {
  delayMs(failures: number): number | null {
    if (failures === 1) return MINUTE;
    return failures * 60 * MINUTE <= DAY ? 60 * MINUTE : null;
  }
}
