import { Webhook } from 'nestjs-entity-webhooks';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';

abstract class Row {
  @PrimaryGeneratedColumn()
  id: number;

  /** What listeners ask for. */
  @Column({ type: 'int' })
  topic: number;

  @Column({ type: 'text' })
  text: string;
}

@Webhook()
@Entity('parcel')
export class Parcel extends Row {}

/** Its twin, whose events come from triggers. */
@Webhook({ capture: 'trigger' })
@Entity('captured_parcel')
export class CapturedParcel extends Row {}

/** Its twin, which makes no events. */
@Entity('plain_parcel')
export class PlainParcel extends Row {}
