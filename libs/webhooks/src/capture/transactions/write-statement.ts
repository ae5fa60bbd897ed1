import { LEADING_COMMENTS } from './transaction-statement.js';

const WRITES = new RegExp(
  `^${LEADING_COMMENTS}(?:insert|update|delete|with|merge|replace|truncate|copy|load|call|do)\\b`,
  'i',
);

/**
 * A statement of MySQL and MariaDB that does nothing. Its answer contains the state of the transaction. Capture sends the statement while
 * another statement is unfinished. As a write, it would need the mark for triggers, and would wait for that other statement.
 */
export const MYSQL_NO_OP = 'DO 0';

/** Whether a statement may write rows. */
export function isWriteStatement(text: string): boolean {
  return WRITES.test(text) && text !== MYSQL_NO_OP;
}
