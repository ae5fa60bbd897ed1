import type { Reporter, Vitest } from 'vitest/node';

import {
  browserSuitesLeftOut,
  chosenDatabases,
  DATABASE_NAMES,
  networkSuitesLeftOut,
  suitesLeftOut,
} from './chosen-databases.js';
import type { TestServers } from './global-setup.js';
import { CHROMIUM } from './installed-chromium.js';

/**
 * Prints one line at the end of a run: the databases that it used, and those that it left out, because there is no server or `DATABASES`
 * does not name them.
 */
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

function summary({ postgres, mysql, pgbouncer, promtool, namespaces }: TestServers): string {
  const chosen = chosenDatabases();
  const notChosen = DATABASE_NAMES.filter((name) => !chosen.includes(name));
  const ran = chosen.includes('sqlite') ? ['SQLite'] : [];
  if (postgres) ran.push(`PostgreSQL ${postgres.version}${postgres.embedded ? ' (embedded)' : ''}`);
  const leftOut: string[] = [];
  if (mysql) {
    ran.push(`${mysql.product} ${mysql.version}`);
  } else if (chosen.includes('mysql2')) {
    leftOut.push('MariaDB and MySQL (set MYSQL_URL)');
  }
  if (pgbouncer) {
    ran.push(`PgBouncer ${pgbouncer.version}`);
  } else if (postgres) {
    leftOut.push('PgBouncer (install pgbouncer)');
  }
  if (promtool !== undefined) {
    ran.push(`promtool ${promtool}`);
  } else {
    leftOut.push('promtool, for the alert rules (install prometheus)');
  }
  if (postgres?.embedded) {
    leftOut.push('a PostgreSQL server of your own (set POSTGRES_URL)');
  }
  if (!process.env['REDIS_URL'] && notChosen.length === 0) {
    leftOut.push('Redis (set REDIS_URL)');
  }
  if (browserSuitesLeftOut().length === 0 && CHROMIUM === undefined) leftOut.push('Chromium (install chromium)');
  if (networkSuitesLeftOut().length === 0 && namespaces !== true)
    leftOut.push(`network namespaces (run as root, and install iproute2: ${namespaces})`);
  const reasons = [
    ...(notChosen.length > 0 ? [`left out by DATABASES: ${[...notChosen, ...suitesLeftOut()].join(', ')}`] : []),
    ...(leftOut.length > 0 ? [`left out for want of a server or program: ${leftOut.join(', ')}`] : []),
  ];
  if (browserSuitesLeftOut().length > 0) reasons.push('the suites in a browser run by npm run test:browser');
  if (networkSuitesLeftOut().length > 0) reasons.push('the suites of hosts and links run by npm run test:network');
  const left = reasons.length > 0 ? reasons.join('; ') : 'nothing left out';
  return `  Databases  ${ran.join(', ')}; ${left}\n`;
}
