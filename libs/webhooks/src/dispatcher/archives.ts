import type { LoggerService } from '@nestjs/common';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import { isArchiving } from '../store/queue/archive-state.js';

/** Whether the application archives old rows, so that chores must not delete them. */
export type Archives = (now: number) => Script<boolean>;

interface ArchivesParts {
  readonly database: Database;
  /** `null` if this process has no archive. */
  readonly archiver: object | null;
  readonly logger: LoggerService;
}

/** A process without an archive looks for the mark of another process in the transaction that would delete rows. */
export function archivesOf({ database, archiver, logger }: ArchivesParts): Archives {
  let hasWarned = false;
  return function* (now) {
    if (archiver) return true;
    if (!(yield* isArchiving(database, now))) return false;
    if (!hasWarned) {
      logger.warn(
        'Another process archives old rows, but this process has no `parts.archive`, so it deletes none of them. Give all processes that dispatch the same `parts.archive`. If you have removed the archive, rows are deleted again after seven days. (Logged once.)',
      );
    }
    hasWarned = true;
    return true;
  };
}
