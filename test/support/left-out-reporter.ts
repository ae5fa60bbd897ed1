import type { Reporter, Vitest } from 'vitest/node';

import type { TestServers } from './global-setup.js';

/** Closes a run with one line: which databases it met, and which suites it left out for want of a server. */
export default class LeftOutReporter implements Reporter {
  private vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.vitest = vitest;
  }

  onTestRunEnd(): void {
    const { servers } = (this.vitest?.getRootProject().getProvidedContext() ?? {}) as { servers?: TestServers };
    if (servers) {
      this.vitest?.logger.log(summary(servers));
    }
  }
}

function summary({ postgres, mysql, pgbouncer }: TestServers): string {
  const ran = ['SQLite', `PostgreSQL ${postgres.version}${postgres.embedded ? ' (embedded)' : ''}`];
  const leftOut: string[] = [];
  if (mysql) {
    ran.push(`${mysql.product} ${mysql.version}`);
  } else {
    leftOut.push('MariaDB and MySQL (set MYSQL_URL)');
  }
  if (pgbouncer) {
    ran.push(`PgBouncer ${pgbouncer.version}`);
  } else {
    leftOut.push('PgBouncer (install pgbouncer)');
  }
  if (postgres.embedded) {
    leftOut.push('a PostgreSQL server of your own (set POSTGRES_URL)');
  }
  if (!process.env['REDIS_URL']) {
    leftOut.push('Redis (set REDIS_URL; no suite needs it yet)');
  }
  const left = leftOut.length > 0 ? `left out for want of a server: ${leftOut.join(', ')}` : 'nothing left out';
  return `  Databases  ${ran.join(', ')}; ${left}\n`;
}
