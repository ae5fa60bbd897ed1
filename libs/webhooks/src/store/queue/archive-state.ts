import sql from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { replacing } from '../database/dialect-sql.js';
import { query, type Script } from '../database/script.js';
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
  const { settings: s } = database.tables;
  const [row] = yield* query<{ value: string }>(
    sql`select ${s.select('s', 'value')} from ${s.sql} s where s.${s.$.name} = ${ARCHIVE}`,
  );
  return row ? (JSON.parse(row.value) as ArchiveState) : NOTHING;
}

export function* writeArchiveState(database: Database, state: ArchiveState, now: number): Script<void> {
  const { sql: path, $ } = database.tables.settings;
  yield sql`insert into ${path} (${$.name}, ${$.value}, ${$.updatedAt}) values (${ARCHIVE}, ${JSON.stringify(state)}, ${now})${replacing(database.dialect, [$.name], [$.value, $.updatedAt])}`;
}
