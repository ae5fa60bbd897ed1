import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { DataSource } from 'typeorm';
import type { TriggerOptions } from '../migrations/triggers.js';
import { importTypeScript, isTypeScript } from './type-script-loader.js';

/**
 * Loads a JavaScript or TypeScript module that exports one DataSource, or a promise of it, under any name. The module may also export
 * `webhooks`.
 *
 * @throws what the module throws, and an Error if it exports no DataSource or more than one
 */
export async function loadDataSource(file: string): Promise<{ dataSource: DataSource; options: TriggerOptions }> {
  const loaded = await load(file);
  // `import()` of CommonJS gives its exports as `default`, which may contain another `default`.
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
      `${file} exports ${dataSource ? 'more than one DataSource' : 'no DataSource'}. Allowed: a module that exports one DataSource, the one of your entities.`,
    );
  }
  return { dataSource, options: ({ ...exported, ...loaded } as { webhooks?: TriggerOptions }).webhooks ?? {} };
}

async function load(given: string): Promise<Record<string, unknown>> {
  const file = resolve(given);
  if (isTypeScript(file)) return importTypeScript(file);
  return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
}

/** Checks members instead of the class, because the application may have another copy of TypeORM. */
function isDataSource(value: unknown): value is DataSource {
  const { createQueryRunner, entityMetadatas } = (value ?? {}) as Partial<DataSource>;
  return typeof createQueryRunner === 'function' && Array.isArray(entityMetadatas);
}
