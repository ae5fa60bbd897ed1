import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { includedTypes, type CatalogDocumentOptions } from '../../catalog/documents.js';
import { webhookCatalog, type WebhookCatalog } from '../../catalog/index.js';
import type { WebhooksClient } from '../../client/webhooks-client.js';
import { ConfigurationError } from '../../errors.js';
import { isReservedType } from '../../events/reserved-names.js';
import { messageOf } from '../../foreign-text.js';
import { noEntities } from '../data-source/no-entities.js';
import { load, type LoadedDataSource } from '../data-source/open-data-source.js';
import { argumentError } from '../terminal/cli.js';
import { print } from '../terminal/table.js';
import { colored, type ExitCode, type Terminal } from '../terminal/terminal.js';

/** The options of the command `types`, each of which writes a file or does a check. */
export type TypesAction = 'out' | 'openapi' | 'asyncapi' | 'schemas' | 'check' | 'write';

interface Asked {
  readonly action: TypesAction;
  /** The file or folder of the option. */
  readonly path: string;
  readonly isPrinted: boolean;
  /** Which types, in which versions. */
  readonly choice: Choice;
}

interface Output {
  readonly terminal: Terminal;
  readonly json: boolean | undefined;
}

type Choice = Pick<CatalogDocumentOptions, 'include' | 'versions'>;

/** Runs the command `types` on the entities of a data source file, without a connection. */
export async function runTypes(given: string | undefined, asked: Asked, output: Output): Promise<ExitCode> {
  const loaded = await load(given);
  const catalog = await webhookCatalog(loaded.dataSource, loaded.options);
  assertNotEmpty(catalog, loaded, output.terminal);
  const { action, path, isPrinted, choice } = asked;
  assertPins(catalog, choice.versions ?? {});
  if (action === 'check') return checkRecord(catalog, path, output);
  if (action === 'schemas') return writeFiles(action, schemaFiles(catalog, path, choice), output);
  if (!isPrinted) return writeFiles(action, [[path, TEXTS[action](catalog, choice)]], output);
  const isList = action === 'out' && output.json;
  output.terminal.out(isList ? listOfTypes(catalog, choice) : TEXTS[action](catalog, choice));
  return 0;
}

/** Refuses pins that the documents would ignore. */
function assertPins({ types }: WebhookCatalog, pins: Readonly<Record<string, number>>): void {
  for (const [name, version] of Object.entries(pins)) {
    const found = types.find(({ type }) => type === name);
    if (!found) throw argumentError(`--pin names '${name}', which is no event type.`);
    const offered = [found, ...found.older].map((one) => one.version);
    if (offered.includes(version)) continue;
    throw argumentError(`--pin: '${name}' has no version ${version}. Allowed: ${offered.join(', ')}.`);
  }
}

/** Runs the command `types` over the API: the types that the caller may see. */
export async function runRemoteTypes(
  client: WebhooksClient,
  { action, path, isPrinted }: Omit<Asked, 'choice' | 'action'> & { action: Exclude<TypesAction, 'check' | 'write'> },
  output: Output,
): Promise<ExitCode> {
  if (action === 'schemas') return writeFiles(action, await remoteSchemas(client, path), output);
  const isList = action === 'out' && isPrinted && output.json;
  const text = isList ? jsonText((await client.listEventTypes()).items) : await REMOTE_TEXTS[action](client);
  if (!isPrinted) return writeFiles(action, [[path, text]], output);
  output.terminal.out(text);
  return 0;
}

const REMOTE_TEXTS: Readonly<
  Record<Exclude<TypesAction, 'check' | 'write' | 'schemas'>, (client: WebhooksClient) => Promise<string>>
> = {
  out: async (client) => (await client.getEventsTypeScript()).trimEnd(),
  openapi: async (client) => jsonText(await client.getEventsOpenApi()),
  asyncapi: async (client) => jsonText(await client.getEventsAsyncApi()),
};

async function remoteSchemas(client: WebhooksClient, folder: string): Promise<TextFile[]> {
  const files: TextFile[] = [];
  for (const { type, versions } of (await client.listEventTypes()).items) {
    for (const name of [type, ...versions.slice(1).map((version) => `${type}.${version}`)])
      files.push([join(folder, `${name}.json`), jsonText(await client.getEventSchema({ type: name }))]);
  }
  return files;
}

/** An application without entities with webhooks usually has published types. Without either, the catalogue would be empty. */
function assertNotEmpty({ types }: WebhookCatalog, { file, resolved }: LoadedDataSource, { err }: Terminal): void {
  if (!types.length) throw noEntities(file);
  const isOfEntity = (type: string) => !resolved.publishedTypes.has(type) && !isReservedType(type);
  if (!types.some(({ type }) => isOfEntity(type))) err(`warning: ${noEntities(file).message}`);
}

const TEXTS: Readonly<
  Record<Exclude<TypesAction, 'check' | 'schemas'>, (catalog: WebhookCatalog, choice: Choice) => string>
> = {
  out: (catalog, choice) => catalog.typeScript(choice).trimEnd(),
  openapi: (catalog, choice) => jsonText(catalog.openApi(choice)),
  asyncapi: (catalog, choice) => jsonText(catalog.asyncApi(choice)),
  write: (catalog) => jsonText(catalog.record()),
};

/** Writes each value on a separate line, so that a diff shows which values have changed. */
function jsonText(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

function listOfTypes({ types }: WebhookCatalog, choice: Choice): string {
  return jsonText(includedTypes(types, choice));
}

type TextFile = readonly [path: string, text: string];

function schemaFiles(catalog: WebhookCatalog, folder: string, choice: Choice): TextFile[] {
  const schemas = Object.entries(catalog.schemas(choice));
  return schemas.map(([type, schema]) => [join(folder, `${type}.json`), jsonText(schema)]);
}

async function writeFiles(
  action: TypesAction,
  files: readonly TextFile[],
  { terminal, json }: Output,
): Promise<ExitCode> {
  for (const [path, text] of files) {
    try {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, `${text}\n`);
    } catch (error) {
      throw argumentError(`The file of --${action} cannot be written: ${messageOf(error)}.`);
    }
  }
  const written = files.map(([path]) => path);
  print(terminal, { written }, { json, rows: written.map((path) => [`wrote ${path}`]) });
  return 0;
}

async function checkRecord(catalog: WebhookCatalog, file: string, { terminal, json }: Output): Promise<ExitCode> {
  const changes = catalog.check(await readRecord(file));
  const isBreaking = changes.some(({ breaking }) => breaking);
  const rows = changes.map(({ type, path, change, breaking }) => [
    type,
    path,
    change,
    breaking ? BREAKING : 'compatible',
  ]);
  const out = (line: string) => terminal.out(withColor(terminal, line));
  print({ ...terminal, out }, changes, { json, rows: rows.length ? rows : [[`No changes since ${file}.`]] });
  if (isBreaking) terminal.err(`Receivers may fail. Undo these changes, or accept them with --write ${file}.`);
  // Otherwise a later check would not miss a new type or field.
  else if (changes.length) terminal.err(`Record these changes with --write ${file}.`);
  return isBreaking ? 1 : 0;
}

const BREAKING = 'BREAKING';

function withColor(terminal: Terminal, line: string): string {
  if (!line.endsWith(`  ${BREAKING}`)) return line;
  return line.slice(0, -BREAKING.length) + colored(terminal, 'red', BREAKING);
}

/** @throws ConfigurationError `INVALID_CATALOG` */
async function readRecord(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as unknown;
  } catch (error) {
    throw new ConfigurationError(
      'INVALID_CATALOG',
      `The record ${file} cannot be read: ${messageOf(error)}. Write it with --write ${file}.`,
    );
  }
}
