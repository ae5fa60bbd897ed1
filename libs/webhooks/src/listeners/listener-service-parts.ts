import type { WebhookClock } from '../clock.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { Quotas } from '../quotas.js';
import type { Sealing } from '../secrets/sealing.js';
import type { AddressGuard } from '../sending/address-guard.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import type { CallerTransactions } from '../store/database/caller-transactions.js';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import type { ListenerRow } from '../store/listeners/listener-rows.js';
import type { TestExample } from '../store/queue/test-event.js';
import type { EventCatalog } from './event-catalog.js';
import type { Listener } from './listener.js';
import type { PinnedVersions } from './pinned-versions.js';

/** The dependencies of a `ListenerService`. @internal */
export interface ListenerServiceParts {
  readonly database: Database;
  readonly transactions: CallerTransactions;
  /** Who makes the changes; `null`: the application, which gave no name. */
  readonly actor: string | null;
  readonly catalog: EventCatalog;
  /** The versions that listeners pin. */
  readonly versions: PinnedVersions;
  readonly clock: WebhookClock;
  readonly guard: AddressGuard;
  /** Resolves the name in a URL. @throws BadRequestError `URL_ADDRESS_BLOCKED` */
  readonly assertAddress: (url: URL) => Promise<void>;
  readonly options: ResolvedWebhooksOptions;
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  readonly sealing: Sealing;
  readonly quotas: Quotas;
  readonly formats: ReadonlySet<string>;
  /** The schemes and formats that owner-bound services accept. */
  readonly customers: { readonly formats: ReadonlySet<string>; readonly schemes: ReadonlySet<string> };
  /** Stores an example event for one listener. @returns the id of its delivery */
  readonly sendTest: (listener: ListenerRow, example: TestExample, actor: string | null) => Script<string>;
  /** Wakes the dispatcher, because deliveries may be due. */
  readonly wake: () => void;
  readonly disabled: (listener: Listener) => void;
  /** Stores an event about a disabled listener, if the application wants such events. @returns whether the event was stored */
  readonly storeDisabled: (listener: ListenerRow) => Script<boolean>;
  readonly warn: (message: string) => void;
}
