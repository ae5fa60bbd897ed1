import type { QueryRunner } from 'typeorm';

export type SendStatement = (text: string, parameters: unknown[]) => Promise<BuilderResult>;

/**
 * Creates a query runner that sends the statement of the builder by `send`. The statement of the builder is the first statement for which a
 * structured result is requested.
 */
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

/** The structured result of a query runner. */
export interface BuilderResult {
  raw: unknown;
  records: Record<string, unknown>[];
  affected?: number;
}
