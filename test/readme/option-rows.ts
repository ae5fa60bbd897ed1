import { readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import ts from 'typescript';

import type { AnyOptionTable, Option } from '../../libs/webhooks/src/option-table.js';
import { WORKSPACE } from '../support/scratch-project.js';

const SRC = join(WORKSPACE, 'libs/webhooks/src');

/** The files that declare interfaces of options. */
const FILES = [
  'options/webhooks-options.ts',
  'health/circuit.ts',
  'sending/security-options.ts',
  'sending/egress-proxy.ts',
  'receiver/nest/incoming-webhooks-options.ts',
  'verify/webhooks-verify.module.ts',
  'keys/webhooks-keys.module.ts',
  'otel/webhooks-telemetry.module.ts',
  'api/api-options.ts',
  'bullmq/bullmq-engine-options.ts',
  'dashboard/dashboard-options.ts',
  'shards/webhooks-shards.module.ts',
];

/** An option with its comment in the interface. */
export interface DocumentedOption {
  readonly path: string;
  readonly option: Option<never, unknown>;
  /** The comment without its tags. */
  readonly comment: string;
  /** `@defaultValue` */
  readonly defaultValue: string | undefined;
}

/** Options with their comments: groups first, then the options in them. @param type name of the interface of the options */
export function documentedOptions(type: string, table: AnyOptionTable): DocumentedOption[] {
  return documented(membersOf(type), table, '');
}

type Members = ReadonlyMap<string, ts.PropertySignature>;

const DECLARATIONS = new Map(
  FILES.map((file) => readFileSync(join(SRC, file), 'utf8'))
    .flatMap((text) => [...ts.createSourceFile('options.ts', text, ts.ScriptTarget.ES2023, true).statements])
    .filter((statement) => ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement))
    .map((declaration) => [declaration.name.text, declaration]),
);

function membersOf(name: string): Members {
  const declaration = DECLARATIONS.get(name);
  if (!declaration) return new Map();
  return ts.isInterfaceDeclaration(declaration) ? propertiesIn(declaration.members) : membersIn(declaration.type);
}

/** The members of a type: of an interface in it, of `{ … }`, `A & B`, `false | A`, `Partial<A>` or `Readonly<Record<string, A>>`. */
function membersIn(type: ts.TypeNode): Members {
  if (ts.isTypeLiteralNode(type)) return propertiesIn(type.members);
  if (ts.isUnionTypeNode(type) || ts.isIntersectionTypeNode(type))
    return new Map(type.types.flatMap((one) => [...membersIn(one)]));
  if (!ts.isTypeReferenceNode(type)) return new Map();
  const inner = type.typeArguments?.at(-1);
  return inner ? membersIn(inner) : membersOf((type.typeName as ts.Identifier).text);
}

function propertiesIn(members: readonly ts.TypeElement[]): Members {
  return new Map(members.filter(ts.isPropertySignature).map((one) => [(one.name as ts.Identifier).text, one]));
}

function documented(members: Members, table: AnyOptionTable, prefix: string): DocumentedOption[] {
  return Object.entries(table).flatMap(([key, option]) => {
    const path = prefix + key;
    const inner = option.table ?? {};
    if (key === '<name>') return documented(members, inner, `${path}.`);
    const property = members.get(key);
    if (!property?.type) throw new Error(`No interface in ${FILES.join(', ')} has the option ${path}.`);
    return [{ path, option, ...commentOf(property) }, ...documented(membersIn(property.type), inner, `${path}.`)];
  });
}

function commentOf(property: ts.PropertySignature): Pick<DocumentedOption, 'comment' | 'defaultValue'> {
  const [comment] = ts.getJSDocCommentsAndTags(property);
  const tag = ts.getJSDocTags(property).find(({ tagName }) => tagName.text === 'defaultValue');
  const text = (given: ts.JSDoc['comment']) =>
    ts
      .getTextOfJSDocComment(given)
      ?.replaceAll(/\s+/g, ' ')
      .replaceAll(/\{@link (\w+)\}/g, '`$1`');
  return { comment: text((comment as ts.JSDoc | undefined)?.comment) ?? '', defaultValue: text(tag?.comment) };
}

/** The table of options for a page of the docs. @param page its path in `docs/` */
export function optionRows(options: readonly DocumentedOption[], page: string): string {
  const rows = options
    .filter(({ option }) => option.allowed !== undefined)
    .map((one) => [`\`${one.path}\``, defaultOf(one), code(one.option.allowed ?? ''), meaningOf(one, page)]);
  return [['option', 'default', 'allowed', 'meaning'], ['-', '-', '-', '-'], ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');
}

function defaultOf({ path, option, defaultValue }: DocumentedOption): string {
  const text = option.default === undefined ? defaultValue : code(option.default);
  if (text === undefined) throw new Error(`The comment of the option ${path} has no @defaultValue.`);
  return text;
}

/** The first sentence of the comment, and links to the pages that the comment names. */
function meaningOf({ path, comment }: DocumentedOption, page: string): string {
  const [sentence] = /^.+?\.(?= |$)/.exec(comment) ?? [];
  if (sentence === undefined) throw new Error(`The option ${path} has no comment that begins with a sentence.`);
  const links = [...comment.matchAll(/`docs\/([\w/-]+\.md)(?:#([\w-]+))?`/g)].map(([, file = '', anchor = '']) => {
    const label = anchor || posix.basename(file.replace(/\/README\.md$|\.md$/, ''));
    const target = file === page ? '' : posix.relative(dirname(page), file);
    return `[${label.replaceAll('-', ' ')}](${target}${anchor && `#${anchor}`})`;
  });
  return [sentence.slice(0, -1), ...(links.length > 0 ? [links.join(', ')] : [])].join(': ');
}

/** Sets values in the font of code. */
function code(text: string): string {
  return text.replaceAll(/\[.+\]|\{.+\}|'[^']+'/g, (quoted) => `\`${quoted}\``);
}
