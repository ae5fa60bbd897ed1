import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { WORKSPACE } from '../support/scratch-project.js';

let built: Promise<unknown> | undefined;

/** Builds the pages of the dashboard, if their sources changed since the last build. */
export async function buildPages(): Promise<void> {
  built ??= promisify(execFile)(process.execPath, ['scripts/build-ui.mjs', '--if-changed'], { cwd: WORKSPACE });
  await built;
}
