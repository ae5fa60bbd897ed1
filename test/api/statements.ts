import { runtimeToken } from '../../libs/webhooks/src/instance.js';
import type { Script } from '../../libs/webhooks/src/store/database/script.js';
import type { WebhooksRuntime } from '../../libs/webhooks/src/webhooks-runtime.js';
import type { Answer, ApiApp } from './api-app.js';

type Run = <T>(script: () => Script<T>, limit?: 'work' | 'page') => Promise<T>;

/** The number of statements that the library sends to the database while a request is handled. */
export async function countStatements(
  api: ApiApp,
  request: () => Promise<Answer>,
): Promise<{ answer: Answer; statements: number }> {
  const { database } = api.app.get<WebhooksRuntime>(runtimeToken('default'));
  const methods = database as unknown as { transaction: Run; single: Run };
  const { transaction, single } = methods;
  // The statistics of earlier deliveries would be written after 10 s, and counted here.
  await api.dispatcher.writeStats();
  let statements = 0;
  function* counted<T>(script: Script<T>): Script<T> {
    for (let next = script.next(); ;) {
      if (next.done) return next.value;
      statements += 1;
      next = script.next(yield next.value);
    }
  }
  methods.transaction = (script, limit) => transaction.call(database, () => counted(script()), limit) as never;
  methods.single = (script, limit) => single.call(database, () => counted(script()), limit) as never;
  try {
    return { answer: await request(), statements };
  } finally {
    Object.assign(methods, { transaction, single });
  }
}
