import { DatabaseTimeoutError } from '../store/database/database-errors.js';
import { SECOND } from '../time.js';

/** A shard that does not answer within this time is missing, so that the others are shown. */
const ANSWERS_WITHIN_MS = 8 * SECOND;

/** Limits the time that the answer of one shard takes. @throws DatabaseTimeoutError, and what the work throws */
export async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DatabaseTimeoutError('answer', ANSWERS_WITHIN_MS)), ANSWERS_WITHIN_MS);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
