/** `mysql2` is TypeORM's type `mysql` (no `RETURNING`), for MySQL or MariaDB at `MYSQL_URL`. */
export const DATABASE_NAMES = ['sqlite', 'postgres', 'mariadb', 'mysql2'] as const;

export type DatabaseName = (typeof DATABASE_NAMES)[number];

/**
 * The databases that `DATABASES` names, separated by commas; all databases if it is not set. The servers of other databases are neither
 * started nor required.
 *
 * @throws for an unknown name: a typing error must not skip tests silently
 */
export function chosenDatabases(list = process.env['DATABASES']): readonly DatabaseName[] {
  const names = (list ?? '').split(',').map((name) => name.trim());
  if (names.every((name) => name === '')) return DATABASE_NAMES;
  const unknown = names.find((name) => !DATABASE_NAMES.includes(name as DatabaseName));
  if (unknown !== undefined) {
    throw new Error(
      `Unknown database '${unknown}' in DATABASES='${list}'. Allowed: ${DATABASE_NAMES.join(', ')}, with commas between them. Leave DATABASES unset to test on all of them.`,
    );
  }
  return DATABASE_NAMES.filter((name) => names.includes(name));
}

/** Suites that run on no other database than these. vitest fails a suite without tests. */
const NEEDED: Readonly<Record<string, readonly DatabaseName[]>> = {
  'test/faults/database-down-at-start.spec.ts': ['postgres', 'mariadb'],
  'test/faults/lost-answer.spec.ts': ['postgres', 'mariadb'],
  'test/faults/silent-database.spec.ts': ['postgres', 'mariadb'],
  'test/faults/terminated-connection.spec.ts': ['postgres'],
  'test/network/cut-off.spec.ts': ['postgres', 'mariadb'],
  'test/network/random-cuts.spec.ts': ['postgres', 'mariadb'],
  'test/network/slow-links.spec.ts': ['postgres', 'mariadb'],
  'test/readme/production.spec.ts': ['postgres'],
};

/** The suites that `DATABASES` leaves out, because it names none of the databases that they need. */
export function suitesLeftOut(chosen = chosenDatabases()): readonly string[] {
  return Object.keys(NEEDED).filter((suite) => !NEEDED[suite]?.some((name) => chosen.includes(name)));
}

/** Suites in a real browser have a run of their own, `npm run test:browser`, because a browser uses both processors of a small machine. */
export function browserSuitesLeftOut(): readonly string[] {
  return process.env['BROWSER'] === '1' ? [] : ['test/dashboard/browser/**'];
}

/** Suites whose hosts are network namespaces have a run of their own, `npm run test:network`, because they need root. */
export function networkSuitesLeftOut(): readonly string[] {
  return process.env['NETWORK'] === '1' ? [] : ['test/network/**'];
}
