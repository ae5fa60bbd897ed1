import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { PayloadFormat, RetrySchedule, Webhook } from 'nestjs-entity-webhooks';

// Helpers for the specs about the delivery log.

@Webhook({ owner: 'customerId' })
@Entity('log_order')
export class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;
}

export const MINUTE = 60 * 1_000;
export const HOUR = 60 * MINUTE;

/** Three attempts at intervals of one minute. */
export class ThreeAttempts extends RetrySchedule {
  delayMs(failures: number): number | null {
    return failures < 3 ? MINUTE : null;
  }
}

/** Throws while {@link isBroken}. */
export class ShortFormat extends PayloadFormat {
  static isBroken = false;
  readonly name = 'short';
  readonly contentType = 'text/plain';
  render({ type }: { type: string }): string {
    if (ShortFormat.isBroken) throw new Error('a bug in the format');
    return `it happened: ${type}`;
  }
}
