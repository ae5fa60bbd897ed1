import type { DataSource } from 'typeorm';
import { vi } from 'vitest';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { type Script, type StatementResult, Together } from '../../libs/webhooks/src/store/database/script.js';
import { runtimeToken } from '../../libs/webhooks/src/instance.js';
import type { TestApp } from '../support/webhooks-app.js';

/** The number of rows in each table. */
export async function countRows<T extends string>(dataSource: DataSource, ...tables: T[]): Promise<Record<T, number>> {
  const counts = {} as Record<T, number>;
  for (const table of tables) {
    const [row] = await dataSource.query<{ n: unknown }[]>(`SELECT COUNT(*) AS n FROM webhook_${table}`);
    counts[table] = Number(row?.n);
  }
  return counts;
}

/** Records how many rows each later transaction of the module changes or deletes, by table. Transactions without changes are left out. */
export function changesOf(app: TestApp): Record<string, number>[] {
  const transactions: Record<string, number>[] = [];
  const { database } = app.app.get<{ database: Database }>(runtimeToken('default'));
  const transaction = database.transaction.bind(database);
  vi.spyOn(database, 'transaction').mockImplementation(<T>(script: () => Script<T>) =>
    transaction(function* () {
      const changes: Record<string, number> = {};
      const running = script();
      let step = running.next();
      while (!step.done) {
        const result: StatementResult = yield step.value;
        const [statements, results] =
          step.value instanceof Together ? [step.value.statements, result.all ?? []] : [[step.value], [result]];
        for (const [n, statement] of statements.entries()) {
          const table = /^\s*(?:delete from|update|insert into)\s+\S*webhook_(\w+)/i.exec(statement.sql)?.[1];
          const affected = results[n]?.affected;
          if (table && affected) changes[table] = (changes[table] ?? 0) + affected;
        }
        step = running.next(result);
      }
      if (Object.keys(changes).length) transactions.push(changes);
      return step.value;
    }),
  );
  return transactions;
}
