import sql from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { replacing } from '../database/dialect-sql.js';
import { query, type Script } from '../database/script.js';
import { DAY } from '../../time.js';
import type { ArchiveSelection } from './archive-rows.js';

/** Name of the row with the state of the archive. */
const ARCHIVE = 'archive';

/** A file that was begun. */
export interface FileInWork extends ArchiveSelection {
  readonly name: string;
  /** Whether the file is stored. Then its rows may be deleted. */
  readonly isStored: boolean;
  /** Whether the file has every row of its day. */
  readonly isWhole: boolean;
}

/** How far the archive is. */
export interface ArchiveState {
  /** Every day before this one has its first file, or had no rows. In days since 1970. */
  readonly through: number;
  /** The number of further files: those of days that had a file before. */
  readonly parts: number;
  /** When the days before `through` were last searched for rows, in ms since 1970. */
  readonly searchedAt: number;
  /** The file that was begun last, until its rows are deleted. */
  readonly file: FileInWork | null;
}

const NOTHING: ArchiveState = { through: 0, parts: 0, searchedAt: 0, file: null };

export function* readArchiveState(database: Database): Script<ArchiveState> {
  const row = yield* readSetting(database, ARCHIVE);
  return row ? (JSON.parse(row.value) as ArchiveState) : NOTHING;
}

export function* writeArchiveState(database: Database, state: ArchiveState, now: number): Script<void> {
  yield* writeSetting(database, { name: ARCHIVE, value: JSON.stringify(state) }, now);
}

/** Name of the mark of the processes that archive. */
const MARK = 'archiving';
/** After this time without a mark, the application has removed its archive. It is longer than an outage of all processes that archive. */
const ARCHIVING_FOR_MS = 7 * DAY;

/** Marks that a process archives, so that the processes without an archive delete no rows that are not archived yet. */
export function* markArchiving(database: Database, now: number): Script<void> {
  yield* writeSetting(database, { name: MARK, value: '{}' }, now);
}

/** Whether a process of the application archives: the last mark is at most {@link ARCHIVING_FOR_MS} old. */
export function* isArchiving(database: Database, now: number): Script<boolean> {
  const row = yield* readSetting(database, MARK);
  return row !== undefined && Number(row.updatedAt) > now - ARCHIVING_FOR_MS;
}

function* readSetting(database: Database, name: string): Script<{ value: string; updatedAt: unknown } | undefined> {
  const { settings: s } = database.tables;
  const [row] = yield* query<{ value: string; updatedAt: unknown }>(
    sql`select ${s.select('s', 'value', 'updatedAt')} from ${s.sql} s where s.${s.$.name} = ${name}`,
  );
  return row;
}

function* writeSetting(
  database: Database,
  { name, value }: { name: string; value: string },
  now: number,
): Script<void> {
  const { sql: path, $ } = database.tables.settings;
  yield sql`insert into ${path} (${$.name}, ${$.value}, ${$.updatedAt}) values (${name}, ${value}, ${now})${replacing(database.dialect, [$.name], [$.value, $.updatedAt])}`;
}
