import sql from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';
import { selectTasks, UNFINISHED, type TaskRow } from './task-rows.js';

/** Reads tasks that are not finished, or that ended after a time. The newest task comes first. */
export function* readRecentTasks(database: Database, endedAfter: number, limit: number): Script<TaskRow[]> {
  const { tasks: t } = database.tables;
  return yield* query<TaskRow>(
    sql`${selectTasks(database)} where t.${t.$.state} ${inList(UNFINISHED)} or t.${t.$.endedAt} > ${endedAfter} order by t.${t.$.seq} desc limit ${limit}`,
  );
}
