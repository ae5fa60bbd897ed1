import { LEADING_COMMENTS } from './transaction-statement.js';

const WRITES = new RegExp(
  `^${LEADING_COMMENTS}(?:insert|update|delete|with|merge|replace|truncate|copy|load|call|do)\\b`,
  'i',
);

/** Whether a statement may write rows. */
export function isWriteStatement(text: string): boolean {
  return WRITES.test(text);
}
