import { OPERATIONS, type CaptureModeName, type Difference } from './operations/index.js';

const ALL = 'every database';
const NAMES = { sqlite: 'SQLite', postgres: 'PostgreSQL', mariadb: 'MariaDB', mysql2: 'MySQL' } as const;
const MODES: Record<CaptureModeName, string> = { orm: "`capture: 'orm'`", trigger: "`capture: 'trigger'`" };

/** The table of `docs/guarantees.md`: the operations of the suite that a capture mode captures differently. */
export function differenceTable(modes: readonly CaptureModeName[]): string {
  const rows = OPERATIONS.flatMap(({ name, differs }) =>
    modes.flatMap((mode) => {
      const difference = differs?.[mode];
      return difference ? [`| ${name} | ${MODES[mode]} | ${databasesOf(difference)} | ${difference.why} |`] : [];
    }),
  );
  return ['| write | mode | on | what happens |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

function databasesOf({ on }: Difference): string {
  return on ? on.map((name) => NAMES[name]).join(', ') : ALL;
}
