import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { DataSource } from 'typeorm';
import type { TriggerOptions } from '../migrations/triggers.js';

/**
 * Loads a module that exports one DataSource, under any name, or a promise of it; and what it says of webhooks.
 *
 * @throws what the module throws, and an Error when there is none, or more than one
 */
export async function loadDataSource(file: string): Promise<{ dataSource: DataSource; options: TriggerOptions }> {
  const loaded = await load(file);
  // What CommonJS exports is the default one.
  const inner = loaded.default;
  const all = { ...(typeof inner === 'object' && inner !== null && !isDataSource(inner) ? inner : {}), ...loaded };
  const found = new Set<DataSource>();
  for (const exported of Object.values(all)) {
    const value: unknown = await exported;
    if (isDataSource(value)) found.add(value);
  }
  const [dataSource, ...others] = found;
  if (!dataSource || others.length) {
    throw new Error(
      `${file} exports ${dataSource ? 'more than one DataSource' : 'no DataSource'}: give a module that exports the one of your entities.`,
    );
  }
  return { dataSource, options: (all as { webhooks?: TriggerOptions }).webhooks ?? {} };
}

async function load(file: string): Promise<Record<string, unknown>> {
  try {
    return (await import(pathToFileURL(resolve(file)).href)) as Record<string, unknown>;
  } catch (cause) {
    // Newer Node.js reads TypeScript, but none of it with decorators.
    if (!/\.[cm]?tsx?$/.test(file)) throw cause;
    throw new Error(`${file} is not JavaScript: compile it first, and give the compiled file.`, { cause });
  }
}

/** By what it does: the application may have another copy of TypeORM. */
function isDataSource(value: unknown): value is DataSource {
  const { createQueryRunner, entityMetadatas } = (value ?? {}) as Partial<DataSource>;
  return typeof createQueryRunner === 'function' && Array.isArray(entityMetadatas);
}
