import { spawnSync } from 'node:child_process';

export interface InstalledPgBouncer {
  command: string;
  version: string;
}

/** Debian installs it in a folder that is only in root's PATH. */
const COMMANDS = ['pgbouncer', '/usr/sbin/pgbouncer'];

export function installedPgBouncer(): InstalledPgBouncer | undefined {
  for (const command of COMMANDS) {
    const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    const version = status === 0 && /PgBouncer (\S+)/.exec(stdout)?.[1];
    if (version) return { command, version };
  }
  return undefined;
}
