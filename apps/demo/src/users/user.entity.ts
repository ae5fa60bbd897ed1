import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** A customer of the shop. `UsersModule` sets the webhook options of this entity. */
@Entity()
export class User {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 100 })
  username: string;

  @Column({ type: 'varchar', length: 254 })
  email: string;

  @Column({ type: 'varchar', length: 100, nullable: true })
  passwordHash: string | null;
}
