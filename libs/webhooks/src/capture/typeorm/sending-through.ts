import type { QueryRunner } from 'typeorm';

export type SendStatement = (text: string, parameters: unknown[]) => Promise<BuilderResult>;

/** The query runner, except that the builder's own statement, the first one with a structured result, is sent by `send`. */
export function sendingThrough(runner: QueryRunner, send: SendStatement): QueryRunner {
  let isSent = false;
  return Object.create(runner, {
    query: {
      value: (text: string, parameters?: unknown[], isStructured = false) => {
        if (isSent || !isStructured) return runner.query(text, parameters, isStructured as true);
        isSent = true;
        return send(text, parameters ?? []);
      },
    },
  }) as QueryRunner;
}

/** What a query runner answers, structured. */
export interface BuilderResult {
  raw: unknown;
  records: Record<string, unknown>[];
  affected?: number;
}
