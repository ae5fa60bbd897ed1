import sql, { type Sql } from 'sql-template-tag';
import { sealingKeyOf } from '../../secrets/sealing.js';
import { readSecrets } from '../../secrets/stored-secrets.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';

/** Parts and options that enabled listeners name, with the id of one such listener. */
export interface UsedParts {
  readonly schemes: readonly string[];
  readonly format: string;
  readonly handshake: string;
  readonly listenerId: string;
}

/** A sealing key that an enabled listener needs. */
export interface UsedKey {
  readonly keyId: string;
  readonly listenerId: string;
}

/** At most this many listeners are read to find one that needs an unknown key. */
const MAX_READ = 1_000;

/** The different combinations of parts that enabled listeners have: one row for each combination, however many listeners there are. */
export function* readUsedParts(database: Database): Script<UsedParts[]> {
  const { listeners: l } = database.tables;
  const { schemes, format, handshake, id } = l.$;
  const rows = yield* query<{ schemes: string; format: string; handshake: string; id: string }>(
    sql`select ${l.select('l', 'schemes', 'format', 'handshake')}, min(l.${id}) ${l.as('id')} from ${l.sql} l where ${isEnabled(database)} group by l.${schemes}, l.${format}, l.${handshake}`,
  );
  return rows.map((row) => ({ ...row, schemes: JSON.parse(row.schemes) as string[], listenerId: row.id }));
}

/**
 * Finds an enabled listener that needs a sealing key which is not in `keyIds`. The database removes the known keys from the texts, so
 * that only listeners with other keys are read.
 */
export function* findOtherKey(database: Database, keyIds: readonly string[], now: number): Script<UsedKey | null> {
  const { listeners: l } = database.tables;
  const { auth, secrets, seq, tls } = l.$;
  const isSealedWithOther = (column: Sql, property: string) => {
    const prefix = `"${property}":"sealed:`;
    const rest = keyIds.reduce((text, keyId) => sql`replace(${text}, ${`${prefix}${keyId}:`}, '')`, sql`l.${column}`);
    return sql`${rest} like ${`%${prefix}%`}`;
  };
  const rows = yield* query<Sealed>(
    sql`select ${l.select('l', 'id', 'secrets', 'auth', 'tls')} from ${l.sql} l where ${isEnabled(database)} and (${isSealedWithOther(secrets, 'value')} or ${isSealedWithOther(auth, 'sealed')} or ${isSealedWithOther(tls, 'sealed')}) order by l.${seq} limit ${MAX_READ}`,
  );
  for (const row of rows) {
    const keyId = keyIdsOf(row, now).find((id) => !keyIds.includes(id));
    if (keyId !== undefined) return { keyId, listenerId: row.id };
  }
  return null;
}

interface Sealed {
  readonly id: string;
  readonly secrets: string;
  readonly auth: string | null;
  readonly tls: string | null;
}

/** The keys that sealed what a listener needs now. Secrets that sign no more are kept for a time, and need no key. */
function keyIdsOf({ secrets, auth, tls }: Sealed, now: number): string[] {
  try {
    const signing = readSecrets(secrets).filter(({ expiresAt }) => (expiresAt ?? Infinity) > now);
    const documents = [auth, tls].filter((text) => text !== null);
    const sealed = documents.map((text) => (JSON.parse(text) as { sealed: string }).sealed);
    return [...signing.map(({ value }) => value), ...sealed].map(sealingKeyOf).filter((keyId) => keyId !== null);
  } catch {
    return []; // the row was edited by hand
  }
}

function isEnabled({ tables: { listeners: l } }: Database): Sql {
  return sql`l.${l.$.state} <> 'disabled' and l.${l.$.deletedAt} is null`;
}
