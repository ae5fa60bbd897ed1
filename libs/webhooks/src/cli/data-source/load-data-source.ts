import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { DataSource } from 'typeorm';
import type { WebhookFeature } from '../../entities/webhook-feature.js';
import { ConfigurationError } from '../../errors.js';
import type { WebhooksModuleOptions } from '../../options/webhooks-options.js';
import { importTypeScript, isTypeScript } from './type-script-loader.js';

/** The export `webhooks` of a data source file: the options of `WebhooksModule.forRoot()`, and the entities of `forFeature()`. */
export interface WebhooksExport extends WebhooksModuleOptions {
  /** Entities with options. Entities with `@Webhook()` are found without this list. */
  readonly entities?: readonly WebhookFeature[];
}

/** A data source file. */
export interface DataSourceFile {
  readonly file: string;
  readonly dataSource: DataSource;
  readonly options: WebhooksExport;
}

/**
 * Loads a JavaScript or TypeScript module that exports one DataSource, or a promise of it, under any name. The module may also export
 * `webhooks`.
 *
 * @param file as given on the command line
 * @throws the errors of the module; ConfigurationError `DATA_SOURCE_MISSING` if no file is given or there is no such file,
 * `DATA_SOURCE_NOT_EXPORTED` if it exports no DataSource or more than one
 */
export async function loadDataSource(file: string | undefined): Promise<DataSourceFile> {
  if (file === undefined) {
    throw new ConfigurationError(
      'DATA_SOURCE_MISSING',
      'This command needs your data source. Pass -d <file>, with a module that exports your DataSource, or set WEBHOOKS_DATA_SOURCE.',
    );
  }
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
    throw new ConfigurationError(
      'DATA_SOURCE_NOT_EXPORTED',
      `${file} exports ${dataSource ? 'more than one DataSource' : 'no DataSource'}. Allowed: a module that exports exactly one DataSource, with your entities.`,
    );
  }
  const { webhooks = {} } = { ...exported, ...loaded } as { webhooks?: WebhooksExport };
  return { file, dataSource, options: webhooks };
}

async function load(given: string): Promise<Record<string, unknown>> {
  const file = resolve(given);
  if (!existsSync(file)) {
    throw new ConfigurationError(
      'DATA_SOURCE_MISSING',
      `There is no file ${file}. Pass -d with a module that exports your DataSource.`,
    );
  }
  if (isTypeScript(file)) return importTypeScript(file);
  return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
}

/** Checks members instead of the class, because the application may have another copy of TypeORM. */
function isDataSource(value: unknown): value is DataSource {
  const { createQueryRunner, entityMetadatas } = (value ?? {}) as Partial<DataSource>;
  return typeof createQueryRunner === 'function' && Array.isArray(entityMetadatas);
}
