import { Webhook } from 'nestjs-entity-webhooks';
import { Column, DeleteDateColumn, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

abstract class Row {
  @PrimaryGeneratedColumn()
  id: number;

  /** Listeners filter by this column. */
  @Column({ type: 'int' })
  topic: number;

  @Column({ type: 'text' })
  text: string;
}

@Webhook()
@Entity('parcel')
export class Parcel extends Row {}

/** A twin whose `previous` comes from the row that TypeORM has loaded. */
@Webhook({ exactPrevious: false })
@Entity('loaded_parcel')
export class LoadedParcel extends Row {}

/** A twin whose events come from triggers. */
@Webhook({ capture: 'trigger' })
@Entity('captured_parcel')
export class CapturedParcel extends Row {}

/** A twin that makes no events. */
@Entity('plain_parcel')
export class PlainParcel extends Row {}

/** The entity that query builders write, with a unique column and a deletion date. */
abstract class CrateRow extends Row {
  @Column({ type: 'varchar', length: 50, nullable: true, unique: true })
  code: string | null;

  /** Identifies rows that are written together. */
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
