/** What the text of a statement tells about it; whether it writes, SQLite itself says (`stmt.readonly`). */
export interface StatementShape {
  /** What to run: a bare `BEGIN` becomes `BEGIN IMMEDIATE`. */
  readonly sql: string;
  /** Opens a write transaction when none is open. */
  readonly opensTransaction: boolean;
  readonly rollsBack: 'transaction' | 'savepoint' | null;
  /** Its effect lies in the connection, so the query runner has to keep that one. */
  readonly needsOwnConnection: boolean;
  /** Leaves the connection other than a new one: it is closed when the query runner is released. */
  readonly changesSession: boolean;
  /** SQLite calls some reading PRAGMAs (`journal_mode`) writers, and a writing one (`optimize`) a reader. */
  readonly writes: 'yes' | 'no' | 'ask SQLite';
}

const PLAIN: Omit<StatementShape, 'sql'> = {
  opensTransaction: false,
  rollsBack: null,
  needsOwnConnection: false,
  changesSession: false,
  writes: 'ask SQLite',
};

const READ_TRANSACTION: Omit<StatementShape, 'sql'> = { ...PLAIN, needsOwnConnection: true, writes: 'no' };

/** PRAGMAs whose argument is the name of what to look at, not a new value. */
const LOOKS_AT =
  /^(?:table_(?:x?info|list)|index_(?:list|x?info)|foreign_key_(?:list|check)|(?:integrity|quick)_check|read_uncommitted)$/;

/** PRAGMAs that write without being given a value. */
const WORKS = /^(?:wal_checkpoint|optimize|incremental_vacuum)$/;

const LEADING_BLANKS_AND_COMMENTS = /^(?:\s|;|--[^\n]*(?:\n|$)|\/\*[^]*?\*\/)*/;
const PRAGMA = /^PRAGMA\s+(?:["'`[]?\w+["'`\]]?\s*\.\s*)?["'`[]?(\w+)["'`\]]?\s*([=(]?)/i;

/**
 * Reads the first words of a statement.
 *
 * @param isReadonly the file was opened for reading only: its transactions read
 */
export function statementShape(sql: string, isReadonly: boolean): StatementShape {
  const text = sql.replace(LEADING_BLANKS_AND_COMMENTS, '');
  switch (/^[a-z]+/i.exec(text)?.[0].toUpperCase()) {
    case 'BEGIN':
      // A deferred transaction only reads until its first write. Others want to write, and one that read before it
      // took the database's lock could meet SQLITE_BUSY_SNAPSHOT, which no waiting cures.
      if (isReadonly || /^BEGIN\s+DEFERRED\b/i.test(text)) return { ...READ_TRANSACTION, sql };
      return {
        ...PLAIN,
        sql: text.replace(/^BEGIN\b(?!\s+(?:IMMEDIATE|EXCLUSIVE)\b)/i, 'BEGIN IMMEDIATE'),
        opensTransaction: true,
      };
    case 'SAVEPOINT': // outside a transaction it begins one, and its RELEASE commits
      return isReadonly ? { ...READ_TRANSACTION, sql } : { ...PLAIN, sql, opensTransaction: true };
    case 'ROLLBACK':
      return {
        ...PLAIN,
        sql,
        rollsBack: /^ROLLBACK(?:\s+TRANSACTION)?\s+TO\b/i.test(text) ? 'savepoint' : 'transaction',
      };
    case 'ATTACH':
    case 'DETACH':
      return { ...PLAIN, sql, needsOwnConnection: true, changesSession: true };
    case 'CREATE':
      return { ...PLAIN, sql, changesSession: /^CREATE\s+TEMP/i.test(text) };
    case 'PRAGMA':
      return { ...pragmaShape(text), sql };
    default:
      return { ...PLAIN, sql };
  }
}

function pragmaShape(text: string): Omit<StatementShape, 'sql'> {
  const [, name = '', argument] = PRAGMA.exec(text) ?? [];
  if (WORKS.test(name.toLowerCase())) return { ...PLAIN, writes: 'yes' };
  if (LOOKS_AT.test(name.toLowerCase())) return { ...PLAIN, writes: 'no' };
  if (argument) return { ...PLAIN, needsOwnConnection: true, changesSession: true };
  return { ...PLAIN, writes: 'no' };
}
