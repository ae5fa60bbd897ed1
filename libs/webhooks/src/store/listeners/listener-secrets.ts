import sql from 'sql-template-tag';
import { resealed as resealedDocument } from '../../secrets/sealed-document.js';
import type { Sealing } from '../../secrets/sealing.js';
import { readSecrets, resealedSecrets, verifiableSecrets, writeSecrets } from '../../secrets/stored-secrets.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { execute, query, type Script } from '../database/script.js';
import type { ListenerRow } from './listener-rows.js';

/** The maximum number of rows that one transaction reseals. Each row is decrypted, encrypted again, and locked in the meantime. */
const RESEAL_BATCH = 100;

/** The result of {@link resealListeners}. */
export interface ResealedPage {
  /** The number of rows that were written. In a dry run, the number of rows that would be written. */
  readonly resealed: number;
  /** Listeners with a secret that could not be decrypted. */
  readonly unreadable: readonly string[];
  /** The position at which the next page begins; `null` after the last page. */
  readonly last: string | null;
}

/**
 * Encrypts the secrets of a page of listeners with the first key, in the order of `seq`. Removes secrets that are no longer used. Secrets
 * that cannot be decrypted stay unchanged.
 *
 * @param options `after`: `last` of the previous page, '0' for the first page; `isDryRun`: only count the rows
 */
export function* resealListeners(
  database: Database,
  { sealing, now, after, isDryRun }: { sealing: Sealing; now: number; after: string; isDryRun: boolean },
): Script<ResealedPage> {
  const { listeners: l } = database.tables;
  const rows = yield* query<Pick<ListenerRow, 'seq' | 'id' | 'url' | 'secrets' | 'auth' | 'tls'>>(
    sql`select ${l.select('l', 'seq', 'id', 'url', 'secrets', 'auth', 'tls')} from ${l.sql} l where l.${l.$.seq} > ${after} order by l.${l.$.seq} limit ${RESEAL_BATCH}${isDryRun ? sql`` : database.forUpdate}`,
  );
  const unreadable: string[] = [];
  let resealed = 0;
  for (const { seq, id, url, secrets, auth, tls } of rows) {
    const newSecrets = resealedSecrets(secrets, { sealing, now, listenerId: id });
    const newAuth = resealedDocument(auth, { sealing, use: 'auth', listenerId: id, url });
    const newTls = resealedDocument(tls, { sealing, use: 'tls', listenerId: id, url });
    if (!newSecrets.isReadable || !newAuth.isReadable || !newTls.isReadable) unreadable.push(id);
    if (newSecrets.text === secrets && newAuth.text === auth && newTls.text === tls) continue;
    resealed++;
    if (isDryRun) continue;
    yield* execute(
      sql`update ${l.sql} set ${l.$.secrets} = ${newSecrets.text}, ${l.$.auth} = ${newAuth.text}, ${l.$.tls} = ${newTls.text} where ${l.$.seq} = ${seq}`,
    );
  }
  return { resealed, unreadable, last: rows.length < RESEAL_BATCH ? null : String(rows.at(-1)?.seq) };
}

/** The maximum number of rows that one transaction checks for secrets to erase. */
const ERASE_BATCH = 100;

/**
 * Erases rotated secrets from a page of listeners, in the order of `seq`. A secret is erased if it no longer signs and if the verify view
 * no longer accepts the secret. The stored times decide this, so no key is needed.
 *
 * @param options `after`: the last sequence of the previous page
 * @returns the last sequence of this page; `null` at the end
 */
export function* eraseSecrets(
  database: Database,
  { now, after }: { now: number; after: number },
): Script<number | null> {
  const { listeners: l } = database.tables;
  const page = yield* query<{ seq: unknown; secrets: string }>(
    sql`select ${l.select('l', 'seq', 'secrets')} from ${l.sql} l where l.${l.$.seq} > ${after} order by l.${l.$.seq} limit ${ERASE_BATCH}`,
  );
  const outdated = page.filter(({ secrets }) => withoutErased(secrets, now) !== secrets).map(({ seq }) => seq);
  if (outdated.length) {
    // Lock only these rows and read them again, because a rotation may have changed the rows in the meantime.
    const rows = yield* query<{ seq: unknown; secrets: string }>(
      sql`select ${l.select('l', 'seq', 'secrets')} from ${l.sql} l where l.${l.$.seq} ${inList(outdated)} order by l.${l.$.seq}${database.forUpdate}`,
    );
    for (const { seq, secrets } of rows) {
      yield* execute(
        sql`update ${l.sql} set ${l.$.secrets} = ${withoutErased(secrets, now)} where ${l.$.seq} = ${seq}`,
      );
    }
  }
  return page.length < ERASE_BATCH ? null : Number(page.at(-1)?.seq);
}

function withoutErased(text: string, now: number): string {
  try {
    const secrets = readSecrets(text);
    const left = verifiableSecrets(secrets, now);
    return left.length === secrets.length ? text : writeSecrets(left);
  } catch {
    return text; // the row was edited by hand
  }
}
