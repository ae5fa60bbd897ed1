/**
 * The event catalogue: every event type with its JSON Schema, examples and descriptions, as documents for receivers, and as a record that CI
 * compares. See `docs/catalog.md`.
 *
 * @packageDocumentation
 */
export type { AsyncApiDocument } from './async-api.js';
export type { CatalogChange, CatalogRecord, RecordedType } from './catalog-record.js';
export { webhookCatalog, type WebhookCatalogOptions } from './catalog-source.js';
export type { CatalogType } from './catalog-type.js';
export type { CatalogDocumentOptions } from './documents.js';
export type { OpenApiDocument } from './open-api.js';
export { WebhookCatalog } from './webhook-catalog.js';
