import type { JsonObject } from '../json.js';
import { asyncApiDocument, type AsyncApiDocument } from './async-api.js';
import {
  compareRecords,
  recordOf,
  unrenderedVersions,
  type CatalogChange,
  type CatalogRecord,
} from './catalog-record.js';
import type { CatalogType } from './catalog-type.js';
import { includedTypes, type CatalogDocumentOptions } from './documents.js';
import { openApiDocument, type OpenApiDocument } from './open-api.js';
import { typeScriptOf } from './type-script.js';

/** Every event type of one instance, and the documents that describe them. All methods are pure: the same entities give the same texts. */
export class WebhookCatalog {
  /** @param types sorted by type @internal */
  constructor(readonly types: readonly CatalogType[]) {}

  /**
   * A document of OpenAPI 3.1 whose `webhooks` are the event types.
   *
   * @example
   * const { webhooks, components } = catalog.openApi();
   * SwaggerModule.createDocument(app, { ...config, openapi: '3.1.0', webhooks, components });
   */
  openApi(options: CatalogDocumentOptions = {}): OpenApiDocument {
    return openApiDocument(this.types, options);
  }

  /** A document of AsyncAPI 3.1 with one channel, the URL of a listener, and one operation for each event type. */
  asyncApi(options: CatalogDocumentOptions = {}): AsyncApiDocument {
    return asyncApiDocument(this.types, options);
  }

  /** TypeScript for receivers: `WebhookPayloads` with the payload of each event type, and `AnyWebhook`. */
  typeScript(options: Pick<CatalogDocumentOptions, 'include' | 'versions'> = {}): string {
    return typeScriptOf(this.types, options);
  }

  /**
   * JSON Schemas of the payloads by event type, each without references. Older versions follow with the number after the type:
   * `order.updated.1`.
   *
   * @param options `baseUrl`: each schema gets the `$id` `{baseUrl}/order.updated.json`; an older version `{baseUrl}/order.updated.1.json`
   */
  schemas(
    options: Pick<CatalogDocumentOptions, 'include' | 'versions'> & { readonly baseUrl?: string } = {},
  ): Record<string, JsonObject> {
    const { baseUrl } = options;
    const idOf = (type: string): JsonObject =>
      baseUrl === undefined ? {} : { $id: `${baseUrl.replace(/\/+$/, '')}/${type}.json` };
    const types = includedTypes(this.types, options);
    const named = [
      ...types.flatMap(({ type, older }) =>
        older.map(({ version, schema }) => [`${type}.${version}`, schema] as const),
      ),
      ...types.map(({ type, schema }) => [type, schema] as const),
    ];
    return Object.fromEntries(named.map(([name, schema]) => [name, { ...idOf(name), ...schema }]));
  }

  /**
   * The record of all types, internal types included, as JSON: the parts that receivers rely on. Keep it in a file, and compare it in CI:
   * {@link check}.
   */
  record(): CatalogRecord {
    return recordOf(this.types);
  }

  /**
   * The differences between an earlier {@link record} and this catalogue, breaking ones first.
   *
   * @param record the parsed JSON of the file
   * @param today decides whether the `sunset` of a removed type is over
   * @throws ConfigurationError `INVALID_CATALOG` if it is no record
   */
  check(record: unknown, today: Date = new Date()): CatalogChange[] {
    const failing = this.types.flatMap(unrenderedVersions);
    return [...failing, ...compareRecords(record, this.record(), today)];
  }
}
