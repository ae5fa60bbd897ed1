import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { DataSource } from 'typeorm';
import type { TriggerOptions } from '../migrations/triggers.js';
import { importTypeScript, isTypeScript } from './type-script-loader.js';

/**
 * Loads a module, JavaScript or TypeScript, that exports one DataSource, under any name, or a promise of it; and what it says of webhooks.
 *
 * @throws what the module throws, and an Error when there is none, or more than one
 */
export async function loadDataSource(file: string): Promise<{ dataSource: DataSource; options: TriggerOptions }> {
  const loaded = await load(file);
  // What CommonJS exports is the default one, and its own default stands in there.
  const inner = loaded.default;
  const exported = typeof inner === 'object' && inner !== null && !isDataSource(inner) ? { ...inner } : {};
  const found = new Set<DataSource>();
  for (const one of [...Object.values(loaded), ...Object.values(exported)]) {
    const value: unknown = await one;
    if (isDataSource(value)) found.add(value);
  }
  const [dataSource, ...others] = found;
  if (!dataSource || others.length) {
    throw new Error(
      `${file} exports ${dataSource ? 'more than one DataSource' : 'no DataSource'}: give a module that exports the one of your entities.`,
    );
  }
  return { dataSource, options: ({ ...exported, ...loaded } as { webhooks?: TriggerOptions }).webhooks ?? {} };
}

async function load(given: string): Promise<Record<string, unknown>> {
  const file = resolve(given);
  if (isTypeScript(file)) return importTypeScript(file);
  return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
}

/** By what it does: the application may have another copy of TypeORM. */
function isDataSource(value: unknown): value is DataSource {
  const { createQueryRunner, entityMetadatas } = (value ?? {}) as Partial<DataSource>;
  return typeof createQueryRunner === 'function' && Array.isArray(entityMetadatas);
}
