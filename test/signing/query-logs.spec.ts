import { inspect } from 'node:util';
import type { Logger } from 'typeorm';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';
const TOKEN = 'tok-of-a-listener-123456';
const REFUSED = 'refused by the database';

describeDatabases('an application that logs every statement, and seals no secrets', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let logged: string[];

  beforeEach(async () => {
    fresh = await database.reuse();
    logged = [];
    // Without the query runner, the last argument of TypeORM: it contains the whole application.
    const isText = (one: unknown) => typeof one !== 'object' || Array.isArray(one) || one instanceof Error;
    const note = (...said: unknown[]) => void logged.push(inspect(said.filter(isText), { maxStringLength: null }));
    for (const way of ['log', 'info', 'debug', 'warn', 'error'] as const)
      vi.spyOn(console, way).mockImplementation(note);
    const logger: Logger = {
      logQuery: note,
      logQueryError: note,
      logQuerySlow: note,
      logSchemaBuild: note,
      logMigration: note,
      log: note,
    };
    // The drivers of SQLite and MySQL write their logs with `verbose` and `debug`.
    const options = { ...fresh.options, logging: 'all', logger, maxQueryExecutionTime: 0.001, verbose: note };
    app = await startApp({ database: options as never, entities: [], webhooks: { publishedTypes: [TYPE] } });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  const create = (description?: string) =>
    app.listeners.create({
      events: [TYPE],
      url: app.receiver.url,
      auth: { type: 'bearer', token: TOKEN },
      ...(description === undefined ? {} : { description }),
    });
  /** The database refuses rows with this description, after it received all values of the row. */
  const refuse = () =>
    app.dataSource.query(
      database.name === 'sqlite'
        ? `CREATE TRIGGER refuse BEFORE UPDATE ON webhook_listeners WHEN NEW.description = '${REFUSED}' BEGIN SELECT RAISE(ABORT, 'no'); END`
        : `ALTER TABLE webhook_listeners ADD CONSTRAINT refuse CHECK (description <> '${REFUSED}')`,
    );

  it('has no secret and no credential of a listener in its log', async () => {
    const { id, secret } = await create();
    const { secret: second } = await app.listeners.rotateSecret(id);
    await app.webhooks.publish(TYPE, { n: 1 });
    await app.dispatcher.drain();
    await app.listeners.resealSecrets();
    expect(app.receiver.requests).toHaveLength(1);
    // The statements of the application are in the log.
    await app.dataSource.query('SELECT 1 AS marker_of_the_application');
    const log = logged.join('\n');
    expect(log).toContain('marker_of_the_application');
    for (const text of [secret, second, TOKEN]) expect(log).not.toContain(text.replace('whsec_', '').slice(0, 20));
  });

  it('has none in the error of a statement that the database refuses', async () => {
    const { id, secret } = await create();
    await refuse();
    const change = app.listeners.update(id, { description: REFUSED, auth: { type: 'bearer', token: `${TOKEN}x` } });
    const error: unknown = await change.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Error);
    const shown = inspect(error, { depth: 8, showHidden: true, maxStringLength: null }) + JSON.stringify(error);
    for (const text of [secret.replace('whsec_', ''), TOKEN]) expect(shown).not.toContain(text.slice(0, 20));
    // The error still has its reason.
    expect(shown).toMatch(/constraint|SQLITE_CONSTRAINT/i);
  });
});
