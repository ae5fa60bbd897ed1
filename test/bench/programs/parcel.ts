import { Webhook } from 'nestjs-entity-webhooks';
import { Column, DeleteDateColumn, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

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

/** Its twin, whose `previous` comes from what TypeORM has loaded. */
@Webhook({ exactPrevious: false })
@Entity('loaded_parcel')
export class LoadedParcel extends Row {}

/** Its twin, whose events come from triggers. */
@Webhook({ capture: 'trigger' })
@Entity('captured_parcel')
export class CapturedParcel extends Row {}

/** Its twin, which makes no events. */
@Entity('plain_parcel')
export class PlainParcel extends Row {}

/** What query builders write: with a unique column and a date of deletion. */
abstract class CrateRow extends Row {
  @Column({ type: 'varchar', length: 50, nullable: true, unique: true })
  code: string | null;

  /** What is written together. */
  @Index()
  @Column({ type: 'int' })
  isHeld: number;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook()
@Entity('crate')
export class Crate extends CrateRow {}

@Entity('plain_crate')
export class PlainCrate extends CrateRow {}
