import { messageOf } from '../../foreign-text.js';
import { connect, load, withTables } from '../data-source/open-data-source.js';
import { fail, type Check, type Finding, type Patient } from './check.js';
import { clock, connections, notifications, privileges, sqliteMode } from './database-checks.js';
import { egress, rawBody } from './receiver-checks.js';
import {
  damagedRows,
  dispatching,
  eventTypes,
  processes,
  sealingKeys,
  sending,
  tables,
  triggers,
} from './table-checks.js';
import { payloadVersions } from './version-check.js';

/** The checks in the order of the report. An early check looks at a precondition of later ones. */
const CHECKS: readonly Check[] = [
  clock,
  tables,
  triggers,
  privileges,
  notifications,
  connections,
  sealingKeys,
  sqliteMode,
  rawBody,
  eventTypes,
  payloadVersions,
  damagedRows,
  sending,
  processes,
  dispatching,
  egress,
];

/** A finding, and the check that made it. */
export type Examined = Finding & { readonly check: string };

/**
 * Runs every check that fits the database and the options. Changes nothing.
 *
 * @throws the errors of a data source file that cannot be loaded
 */
export async function examine(file: string | undefined, receiver: Patient['receiver']): Promise<Examined[]> {
  const loaded = await load(file);
  try {
    await connect(loaded.dataSource);
  } catch (error) {
    const fix = 'Check that the server runs, and check host, port, user, password and database of the data source.';
    return [{ check: 'connection', ...fail(messageOf(error), fix) }];
  }
  try {
    return await withTables(loaded, (database) => runAll({ loaded, database, receiver }));
  } finally {
    await loaded.dataSource.destroy();
  }
}

async function runAll(patient: Patient): Promise<Examined[]> {
  const examined: Examined[] = [{ check: 'connection', level: 'ok', text: 'the database answers' }];
  let hasTables = true;
  for (const check of CHECKS) {
    if (check.needsTables && !hasTables) continue;
    const finding = await guarded(check, patient);
    if (finding) examined.push({ check: check.name, ...finding });
    if (check === tables && finding?.level === 'FAIL') hasTables = false;
  }
  return examined;
}

/** If a check throws, the error is its finding. */
async function guarded(check: Check, patient: Patient): Promise<Finding | null> {
  try {
    return await check.run(patient);
  } catch (error) {
    return fail(
      `this could not be checked: ${messageOf(error)}`,
      'Correct the fault that the message names, and run doctor again.',
    );
  }
}
