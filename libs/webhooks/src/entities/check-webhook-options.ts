import type { EntityMetadata } from 'typeorm';
import { dialectOf } from '../dialect.js';
import { ConfigurationError } from '../errors.js';
import { knownNames } from '../known-names.js';
import { dataSourceOf } from '../typeorm-compat.js';
import { mayLoseMicroseconds } from './canonical-value.js';
import { DESCRIPTION_KEYS } from './described-type.js';
import { isOwnerFromRow } from './owner-from-row.js';
import {
  CAPTURE_MODES,
  ENTITY_ACTIONS,
  ORDERINGS,
  type CaptureMode,
  type WebhookOptions,
} from './webhook.decorator.js';

/**
 * Other keys are rejected. Otherwise a misspelt option would be ignored silently, and its default would apply. For a misspelt
 * `fields`, for example, all columns would be sent.
 */
const OPTION_KEYS: readonly string[] = [
  'name',
  'on',
  'fields',
  'owner',
  'when',
  'ordering',
  'readInserted',
  'ignore',
  'coalesce',
  'exactPrevious',
  'capture',
  'describe',
  'events',
  ...(DESCRIPTION_KEYS as (keyof WebhookOptions)[]),
] satisfies (keyof WebhookOptions)[];

const SWITCHES = ['readInserted', 'coalesce', 'exactPrevious'] as const;

/** What the options belong to. */
interface Declaration {
  readonly metadata: EntityMetadata;
  readonly name: string;
  readonly options: WebhookOptions;
  readonly capture: CaptureMode;
}

/**
 * Checks the options whose values need no comparison with the columns.
 *
 * @throws ConfigurationError `INVALID_WEBHOOK_OPTIONS`, `OWNER_NOT_PURE`, `KEY_NOT_EXACT`
 */
export function checkWebhookOptions(declaration: Declaration): void {
  const { metadata, name, options, capture } = declaration;
  if (!/^[a-z0-9_]+$/.test(name) || name.length > 100) {
    throw wrongOption(metadata, 'name', name, 'Allowed: 1 to 100 lower-case letters, digits and underscores');
  }
  const misspelt = Object.keys(options).find((key) => !OPTION_KEYS.includes(key));
  if (misspelt !== undefined) {
    throw new ConfigurationError(
      'INVALID_WEBHOOK_OPTIONS',
      `Unknown option \`${misspelt}\` in @Webhook() of ${metadata.name}.${knownNames(misspelt, OPTION_KEYS)}`,
      { details: { entity: metadata.name, option: misspelt } },
    );
  }
  const unknown = options.on?.filter((action) => !ENTITY_ACTIONS.includes(action));
  if (unknown?.length) throw wrongOption(metadata, 'on', unknown.join(', '), `Allowed: ${quoted(ENTITY_ACTIONS)}`);
  const { ordering = 'none' } = options;
  if (!ORDERINGS.includes(ordering)) throw wrongOption(metadata, 'ordering', ordering, `Allowed: ${quoted(ORDERINGS)}`);
  if (!CAPTURE_MODES.includes(capture))
    throw wrongOption(metadata, 'capture', capture, `Allowed: ${quoted(CAPTURE_MODES)}`);
  if (capture === 'trigger') refuseWhatTriggersCannot(declaration);
  else refuseKeysOfMicroseconds(metadata);
  for (const option of SWITCHES) {
    const value: unknown = options[option];
    if (value !== undefined && typeof value !== 'boolean')
      throw wrongOption(metadata, option, String(value), 'Allowed: true, false');
  }
}

function refuseWhatTriggersCannot({ metadata, options: { owner } }: Declaration): void {
  const { name, tableType } = metadata;
  if (tableType === 'view')
    throw wrongOption(metadata, 'capture', 'trigger', "Row triggers do not work on a view: use 'orm'");
  if (typeof owner !== 'function' || isOwnerFromRow(owner)) return;
  throw new ConfigurationError(
    'OWNER_NOT_PURE',
    `Invalid \`owner\` in @Webhook() of ${name}: a plain function, with \`capture: 'trigger'\`. The function would run after the commit, perhaps in another process, and other data than the row may have changed by then. Allowed: a column, or a function that reads only the row and is marked as such: owner: ownerFromRow(row => …).`,
    { details: { entity: name, option: 'owner' } },
  );
}

/**
 * A Date holds milliseconds. Rows whose keys differ only in microseconds would look like the same row. So events would be lost.
 * TypeORM also could not find a row by the key that TypeORM has read.
 */
function refuseKeysOfMicroseconds(metadata: EntityMetadata): void {
  const { name, primaryColumns } = metadata;
  const dialect = dialectOf(dataSourceOf(metadata).options.type);
  const column = primaryColumns.find((one) => mayLoseMicroseconds(one.referencedColumn ?? one, dialect));
  if (!column) return;
  throw new ConfigurationError(
    'KEY_NOT_EXACT',
    `The primary key of ${name} contains a time with microseconds (${column.propertyPath}), but a JavaScript Date holds milliseconds: TypeORM can neither find such a row by the key that it has read, nor distinguish two rows of the same millisecond. Declare \`precision: 3\`, use another key, or set capture: 'trigger' for this entity.`,
    { details: { entity: name, column: column.propertyPath } },
  );
}

/** The error for a value of an option. @param fix what is allowed, or what to do, without a full stop */
export function wrongOption(metadata: EntityMetadata, option: string, value: string, fix: string): ConfigurationError {
  return new ConfigurationError(
    'INVALID_WEBHOOK_OPTIONS',
    `Invalid value '${value}' for \`${option}\` in @Webhook() of ${metadata.name}. ${fix}.`,
    { details: { entity: metadata.name, option } },
  );
}

function quoted(values: readonly string[]): string {
  return values.map((value) => `'${value}'`).join(', ');
}
