import { ConfigurationError } from './errors.js';
import type { ResolvedWebhooksOptions } from './options/resolve-options.js';
import type { SignatureScheme } from './signing/signature-scheme.js';
import type { Database } from './store/database/database.js';
import { findOtherKey, readUsedParts } from './store/listeners/used-parts.js';

/** What {@link checkStoredWork} reads. */
export interface CheckedWork {
  readonly database: Database;
  readonly options: ResolvedWebhooksOptions;
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  readonly formatNames: ReadonlySet<string>;
  readonly now: number;
  /** Tables with triggers whose entities this process does not have. */
  readonly foreignTables: readonly string[];
}

/**
 * Checks that a worker has every part and option that enabled listeners name, and every entity whose images it has to convert. A separate
 * process easily lacks one that the other processes have. Then listeners would wait, or deliveries would fail.
 *
 * @throws ConfigurationError `WORKER_INCOMPLETE`, which names everything that is missing
 */
export async function checkStoredWork(checked: CheckedWork): Promise<void> {
  const { database, options, schemes, formatNames, now, foreignTables } = checked;
  const used = await database.single(() => readUsedParts(database));
  const keyIds = options.secrets.keys.map(({ id }) => id);
  const key = await database.single(() => findOtherKey(database, keyIds, now));
  const details = {
    schemes: unique(used.flatMap((of) => of.schemes.filter((name) => !schemes.has(name)))),
    formats: unique(used.map(({ format }) => format).filter((name) => !formatNames.has(name))),
    keys: key ? [key.keyId] : [],
    origin: used.some(({ handshake }) => handshake === 'cloudevents') && options.handshake.origin === undefined,
    tables: foreignTables,
  };
  const missing = [
    ...details.schemes.map((name) => `the signature scheme '${name}' (parts.signatureSchemes)`),
    ...details.formats.map((name) => `the payload format '${name}' (parts.payloadFormats)`),
    ...details.keys.map((keyId) => `the sealing key '${keyId}' (secrets.keys)`),
    ...(details.origin ? ['handshake.origin'] : []),
    ...details.tables.map((table) => `the entity of '${table}', whose triggers store images (forFeature)`),
  ];
  if (!missing.length) return;
  throw new ConfigurationError(
    'WORKER_INCOMPLETE',
    `This worker lacks what the stored listeners and triggers need: ${missing.join(', ')}. Give it the same options, parts and trigger-mode entities as the processes that create listeners. If a listener or a trigger is no longer needed, disable or remove it.`,
    { details },
  );
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)].toSorted();
}
