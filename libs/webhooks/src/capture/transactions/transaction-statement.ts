import type { DialectName } from '../../dialect.js';

/**
 * The effect of a statement on its transaction. Most statements have no effect on the transaction.
 *
 * - `autocommit`: MySQL's `SET autocommit`. While `autocommit` is off, a transaction is always open.
 * - `unknown`: the statement may end the transaction on MySQL, and only the result of the statement shows the end. Examples are `CALL`,
 * `EXECUTE` and a block of statements.
 */
export type TransactionStatement =
  | { kind: 'begin' | 'prepare' | 'unknown' }
  | { kind: 'commit' | 'rollback'; chain: boolean }
  | { kind: 'autocommit'; isOn: boolean }
  | { kind: 'savepoint' | 'release' | 'rollback_to'; name: string };

/** The comments before the first word of a statement. `.comment()` of query builders writes such a comment. */
export const LEADING_COMMENTS = String.raw`(?:\s|--[^\n]*\n|#[^\n]*\n|/\*[\s\S]*?\*/)*`;
const IDENTIFIER = String.raw`("(?:[^"]|"")+"|\`[^\`]+\`|\[[^\]]+\]|[^\s;]+)`;

// This expression is tested for every statement of the application. So the expression is anchored, and matches only the first word.
const FIRST_WORD = new RegExp(
  `^${LEADING_COMMENTS}(begin|start|commit|end|rollback|abort|savepoint|release|prepare|xa)\\b`,
  'i',
);
const SAVEPOINT = new RegExp(`^${LEADING_COMMENTS}savepoint\\s+${IDENTIFIER}`, 'i');
const RELEASE = new RegExp(`^${LEADING_COMMENTS}release\\s+(?:savepoint\\s+)?${IDENTIFIER}`, 'i');
const ROLLBACK_TO = new RegExp(
  `^${LEADING_COMMENTS}rollback\\s+(?:(?:work|transaction)\\s+)?to\\s+(?:savepoint\\s+)?${IDENTIFIER}`,
  'i',
);
const CHAIN = /\band\s+chain\b/i;
// MySQL commits the open transaction before it runs a statement of this list (Reference Manual, "Statements That Cause an Implicit
// Commit").
const IMPLICIT_COMMIT = new RegExp(
  `^${LEADING_COMMENTS}(?:(?:create|drop)(?!\\s+temporary)|alter|truncate|rename|lock\\s+tables?|grant|revoke|analyze|optimize|repair|check|cache|flush|reset|install|uninstall|import|stop|change|set\\s+password|load\\s+index)\\b`,
  'i',
);
// Any other statement may run further statements. These further statements may commit.
const ENDS_NOTHING_ON_MYSQL = new RegExp(
  `^${LEADING_COMMENTS}(?:$|\\(|(?:select|insert|update|delete|replace|with|table|values|show|explain|describe|desc|set|use|do|help|handler|load|kill|deallocate|create|drop)\\b)`,
  'i',
);
const SET_AUTOCOMMIT = new RegExp(
  `^${LEADING_COMMENTS}set\\b[^;]*?\\bautocommit\\s*:?=\\s*(?:(1|on|true)|(0|off|false))\\b`,
  'i',
);
/** Statements with a body, such as CREATE PROCEDURE. A semicolon in the body does not end the statement. */
const HAS_BODY = new RegExp(
  `^${LEADING_COMMENTS}(?:begin\\s+not\\s+atomic|create\\s+(?:or\\s+replace\\s+)?(?:definer\\s*=\\s*\\S+\\s+)?(?:(?:temp|temporary|constraint|aggregate)\\s+)*(?:procedure|function|trigger|event|package))\\b`,
  'i',
);
const QUOTED = /'(?:[^'\\]|\\[\s\S]|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(\w*)\$[\s\S]*?\$\1\$|--[^\n]*|\/\*[\s\S]*?\*\//g;

/**
 * Finds the statements that begin, end or divide a transaction, both the statements of TypeORM and hand-written statements.
 *
 * @returns one entry for each statement of the text, if at least one of them begins, ends or divides a transaction. Otherwise an empty list
 */
export function transactionStatements(
  text: string,
  dialect: DialectName,
): readonly (TransactionStatement | undefined)[] {
  const isOne = !text.includes(';');
  if (!isOne && HAS_BODY.test(text)) return dialect === 'sqlite' ? NONE : [{ kind: 'unknown' }];
  const parts = isOne ? [text] : text.replaceAll(QUOTED, keepIdentifier).split(';').filter(isStatement);
  const statements = parts.map((part) => transactionStatement(part, dialect));
  return statements.some(Boolean) ? statements : NONE;
}

const NONE: readonly undefined[] = [];

function keepIdentifier(quoted: string): string {
  if (quoted.startsWith('"') || quoted.startsWith('`')) return quoted.replaceAll(';', ' ');
  return quoted.startsWith("'") ? "''" : ' ';
}

function isStatement(part: string): boolean {
  return part.trim() !== '';
}

function transactionStatement(text: string, dialect: DialectName): TransactionStatement | undefined {
  const word = FIRST_WORD.exec(text)?.[1]?.toLowerCase();
  switch (word) {
    case undefined:
      return dialect === 'mysql' ? mysqlStatement(text) : undefined;
    case 'begin':
      return HAS_BODY.test(text) ? { kind: 'unknown' } : { kind: 'begin' };
    case 'start':
      if (/\bstart\s+transaction\b/i.test(text)) return { kind: 'begin' };
      return dialect === 'mysql' ? { kind: 'commit', chain: false } : undefined;
    case 'commit':
    case 'end':
      return { kind: 'commit', chain: CHAIN.test(text) };
    case 'abort':
      return { kind: 'rollback', chain: CHAIN.test(text) };
    case 'prepare':
      return /\bprepare\s+transaction\b/i.test(text) ? { kind: 'prepare' } : undefined;
    case 'xa':
      return xaStatement(text);
    case 'savepoint':
      return named('savepoint', SAVEPOINT, text);
    case 'release':
      return named('release', RELEASE, text);
    default:
      return named('rollback_to', ROLLBACK_TO, text) ?? { kind: 'rollback', chain: CHAIN.test(text) };
  }
}

function mysqlStatement(text: string): TransactionStatement | undefined {
  const autocommit = SET_AUTOCOMMIT.exec(text);
  if (autocommit) return { kind: 'autocommit', isOn: autocommit[1] !== undefined };
  if (IMPLICIT_COMMIT.test(text)) return { kind: 'commit', chain: false };
  return ENDS_NOTHING_ON_MYSQL.test(text) ? undefined : { kind: 'unknown' };
}

function xaStatement(text: string): TransactionStatement | undefined {
  switch (/\bxa\s+(\w+)/i.exec(text)?.[1]?.toLowerCase()) {
    case 'start':
    case 'begin':
      return { kind: 'begin' };
    case 'rollback':
      return { kind: 'rollback', chain: false };
    case 'end':
    case 'prepare':
    case 'commit':
      return { kind: 'prepare' };
    default:
      return undefined;
  }
}

function named(
  kind: 'savepoint' | 'release' | 'rollback_to',
  pattern: RegExp,
  text: string,
): TransactionStatement | undefined {
  const name = pattern.exec(text)?.[1];
  if (name === undefined) return undefined;
  return { kind, name: /^["`[]/.test(name) ? name.slice(1, -1) : name.toLowerCase() };
}

/**
 * Whether the statement may change which schema or database unqualified table names belong to (`SET search_path`, `USE`). Pending changes
 * must be read and written before such a statement.
 */
export function changesSchema(text: string): boolean {
  return /\bsearch_path\b|^\s*use\s/i.test(text);
}
