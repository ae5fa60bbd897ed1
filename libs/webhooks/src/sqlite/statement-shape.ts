/** The properties of a statement that its text shows. SQLite itself reports whether the statement writes (`stmt.readonly`). */
export interface StatementShape {
  /** The text to run: a bare `BEGIN` becomes `BEGIN IMMEDIATE`. */
  readonly sql: string;
  /** Whether the statement opens a write transaction if no transaction is open. */
  readonly opensTransaction: boolean;
  readonly rollsBack: 'transaction' | 'savepoint' | null;
  /** Whether the effect of the statement stays in the connection. Then the query runner must keep the connection. */
  readonly needsOwnConnection: boolean;
  /** Whether the statement changes the connection. Then the connection is closed when the query runner is released. */
  readonly changesSession: boolean;
  /**
   * Whether the statement writes, as far as its text shows. SQLite reports some reading PRAGMAs (`journal_mode`) as writers, and a writing
   * PRAGMA (`optimize`) as a reader.
   */
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

/** PRAGMAs that only read. Their argument is a name, not a new value. */
const READING_PRAGMAS =
  /^(?:table_(?:x?info|list)|index_(?:list|x?info)|foreign_key_(?:list|check)|(?:integrity|quick)_check|read_uncommitted)$/;

/** PRAGMAs that write without an argument. */
const WRITING_PRAGMAS = /^(?:wal_checkpoint|optimize|incremental_vacuum)$/;

const LEADING_BLANKS_AND_COMMENTS = /^(?:\s|;|--[^\n]*(?:\n|$)|\/\*[^]*?\*\/)*/;
const PRAGMA = /^PRAGMA\s+(?:["'`[]?\w+["'`\]]?\s*\.\s*)?["'`[]?(\w+)["'`\]]?\s*([=(]?)/i;

/**
 * Reads the first words of a statement.
 *
 * @param isReadonly whether the file was opened read-only. Then its transactions only read
 */
export function statementShape(sql: string, isReadonly: boolean): StatementShape {
  const text = sql.replace(LEADING_BLANKS_AND_COMMENTS, '');
  switch (/^[a-z]+/i.exec(text)?.[0].toUpperCase()) {
    case 'BEGIN':
      // A deferred transaction only reads until its first write. Other transactions are expected to write. Such a transaction can get
      // SQLITE_BUSY_SNAPSHOT if it reads before it takes the lock of the database. A retry of the statement does not help then.
      if (isReadonly || /^BEGIN\s+DEFERRED\b/i.test(text)) return { ...READ_TRANSACTION, sql };
      return {
        ...PLAIN,
        sql: text.replace(/^BEGIN\b(?!\s+(?:IMMEDIATE|EXCLUSIVE)\b)/i, 'BEGIN IMMEDIATE'),
        opensTransaction: true,
      };
    case 'SAVEPOINT': // outside a transaction, SAVEPOINT begins a transaction, and RELEASE commits it
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
  if (WRITING_PRAGMAS.test(name.toLowerCase())) return { ...PLAIN, writes: 'yes' };
  if (READING_PRAGMAS.test(name.toLowerCase())) return { ...PLAIN, writes: 'no' };
  if (argument) return { ...PLAIN, needsOwnConnection: true, changesSession: true };
  return { ...PLAIN, writes: 'no' };
}
