import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import type { PayloadVersions, WebhookOptions, WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import type { FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

class Place {
  @Column({ type: 'varchar', length: 50 })
  city: string;

  @Column({ type: 'varchar', length: 10 })
  zip: string;
}

@Entity('shipment')
export class Shipment {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  status: string;

  @Column({ type: 'int', default: 0 })
  grams: number;

  @Column({ type: 'varchar', length: 20, nullable: true })
  customer: string | null;

  @Column(() => Place)
  place: Place;
}

/** Version 2 says `state`, version 1 said `status`. */
export const TO_1: PayloadVersions[number] = ({ status, ...data }) => ({ ...data, state: status });
/** Version 3 has `grams` alone, version 2 also had the sum of the weight in kilograms. */
export const TO_2: PayloadVersions[number] = (data) => ({ ...data, kilograms: Number(data['grams']) / 1_000 });

/** The options of three deploys of one application. */
export const DEPLOYS: Record<1 | 2 | 3, WebhookOptions> = {
  1: {},
  2: { version: 2, versions: { 1: TO_1 } },
  3: { version: 3, versions: { 2: TO_2, 1: TO_1 } },
};

/** An application whose shipments have these options. All deploys use the same tables. */
export function deploy(
  fresh: FreshDatabase,
  options: WebhookOptions,
  webhooks: WebhooksModuleOptions = {},
): Promise<TestApp> {
  const entity = { entity: Shipment, owner: 'customer' as const, ...options };
  return startApp({ database: fresh.options, entities: [entity as never], webhooks });
}

export const aShipment = (values: Partial<Shipment> = {}) => ({
  status: 'new',
  grams: 500,
  place: { city: 'Lyon', zip: '69001' },
  ...values,
});

/** A request in the form that tests compare: its version in the header and in the body, and its data. */
export function sentOf({ headers, json }: ReceivedRequest) {
  const { version, data, previous } = json as { version?: number; data: object; previous?: object };
  return { header: headers['webhook-version'], version, data, ...(previous && { previous }) };
}
