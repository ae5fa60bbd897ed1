import type { DialectName } from '../store/column-kinds.js';

/** What a statement does to the transaction it runs in; `undefined` for the great rest of them. */
export type TransactionStatement =
  | { kind: 'begin' }
  | { kind: 'commit'; chain: boolean }
  | { kind: 'rollback'; chain: boolean }
  | { kind: 'prepare' }
  | { kind: 'savepoint' | 'release' | 'rollback_to'; name: string };

/** In front of a statement's first word, as `.comment()` of query builders writes it. */
export const LEADING_COMMENTS = String.raw`(?:\s|--[^\n]*\n|#[^\n]*\n|/\*[\s\S]*?\*/)*`;
const IDENTIFIER = String.raw`("(?:[^"]|"")+"|\`[^\`]+\`|\[[^\]]+\]|[^\s;]+)`;

// Looked at for every statement of the application, so the first words decide with one sticky test.
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
// MySQL commits what is open before it runs one of these (Reference Manual, "Statements That Cause an Implicit Commit").
const IMPLICIT_COMMIT = new RegExp(
  `^${LEADING_COMMENTS}(?:(?:create|drop)(?!\\s+temporary)|alter|truncate|rename|lock\\s+tables|grant|revoke|analyze|optimize|repair)\\b`,
  'i',
);

/** Recognises the statements that begin, end or divide a transaction, TypeORM's own and hand-written ones. */
export function transactionStatement(text: string, dialect: DialectName): TransactionStatement | undefined {
  const word = FIRST_WORD.exec(text)?.[1]?.toLowerCase();
  switch (word) {
    case undefined:
      return dialect === 'mysql' && IMPLICIT_COMMIT.test(text) ? { kind: 'commit', chain: false } : undefined;
    case 'begin':
      return { kind: 'begin' };
    case 'start':
      return /\bstart\s+transaction\b/i.test(text) ? { kind: 'begin' } : undefined;
    case 'commit':
    case 'end':
      return { kind: 'commit', chain: CHAIN.test(text) };
    case 'abort':
      return { kind: 'rollback', chain: CHAIN.test(text) };
    case 'prepare':
      return /\bprepare\s+transaction\b/i.test(text) ? { kind: 'prepare' } : undefined;
    case 'xa':
      return /\bxa\s+(?:end|prepare|commit)\b/i.test(text) ? { kind: 'prepare' } : undefined;
    case 'savepoint':
      return named('savepoint', SAVEPOINT, text);
    case 'release':
      return named('release', RELEASE, text);
    default:
      return named('rollback_to', ROLLBACK_TO, text) ?? { kind: 'rollback', chain: CHAIN.test(text) };
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

/** Whether the names of tables mean others afterwards: what is pending must be read and written before it runs. */
export function changesSchema(text: string): boolean {
  return /\bsearch_path\b|^\s*use\s/i.test(text);
}

/** A `COMMIT` behind another statement in the same text: what is buffered must be written before it runs. */
export function endsTransactionInside(text: string): boolean {
  return /;\s*(?:commit|end|savepoint|release|rollback|prepare)\b/i.test(text);
}
