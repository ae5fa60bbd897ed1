import { existsSync, readFileSync } from 'node:fs';
import { createRequire, register } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Whether a file needs a loader before Node.js can import it. */
export function isTypeScript(file: string): boolean {
  return /\.[cm]?tsx?$/.test(file);
}

/** The entry points of the package that an entity file may require. */
const ENTRIES = ['', '/migrations', '/receiver', '/receiver/nest', '/verify', '/testing', '/catalog'];

/**
 * Loads a TypeScript module with `ts-node` or `tsx` of the file's project. For CommonJS ts-node comes first, because it emits decorator
 * metadata, and TypeORM reads column types from these metadata. For ES modules tsx comes first, because the ES module loader of ts-node
 * cannot resolve the `exports` of newer packages.
 *
 * @param file an absolute path
 * @throws the errors of the module and of its loader, and an Error if the project has neither loader
 */
export async function importTypeScript(file: string): Promise<Record<string, unknown>> {
  const project = createRequire(file);
  const loaders = isEsModule(file) ? [byTsx, byTsNodeEsm] : [byTsNode, byTsx];
  for (const loader of loaders) {
    const load = loader(project, file);
    if (load) return load();
  }
  return withoutLoader(file);
}

type Load = () => Promise<Record<string, unknown>>;

function byTsNode(project: NodeJS.Require, file: string): Load | undefined {
  if (resolved(project, 'ts-node') === undefined) return undefined;
  return () => {
    const tsNode = project('ts-node') as { register(options: { cwd: string; transpileOnly: boolean }): unknown };
    // Only transpile: the build of the application checks types.
    tsNode.register({ cwd: dirname(file), transpileOnly: true });
    return Promise.resolve(project(file) as Record<string, unknown>);
  };
}

function byTsNodeEsm(project: NodeJS.Require, file: string): Load | undefined {
  const loader = resolved(project, 'ts-node/esm');
  if (loader === undefined) return undefined;
  return async () => {
    register(pathToFileURL(loader).href);
    return importFile(file);
  };
}

function byTsx(project: NodeJS.Require, file: string): Load | undefined {
  const manifest = resolved(project, 'tsx/package.json');
  if (manifest === undefined) return undefined;
  return async () => {
    const api = async (kind: 'esm' | 'cjs') =>
      // Import the file by its path: `exports` would resolve to the CommonJS file for `require()`.
      (await import(pathToFileURL(join(dirname(manifest), `dist/${kind}/api/index.mjs`)).href)) as {
        register(options?: { tsconfig?: string }): unknown;
      };
    const tsconfig = nearest(file, 'tsconfig.json');
    // The CommonJS loader of tsx reads the path from here. Otherwise it would search in the working directory.
    if (tsconfig !== undefined) process.env.TSX_TSCONFIG_PATH ??= tsconfig;
    keepOneLibrary(project);
    (await api('esm')).register(tsconfig === undefined ? {} : { tsconfig });
    (await api('cjs')).register();
    return await importFile(file).catch((error: unknown) => {
      throw untypedColumn(error);
    });
  };
}

/** Adds a hint to TypeORM's error, which asks for `emitDecoratorMetadata`. The project may set that option, but tsx ignores it. */
function untypedColumn(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== 'ColumnTypeUndefinedError') return error;
  const hint =
    'tsx emits no decorator metadata. Set the type of the column, install ts-node, or pass the compiled file.';
  return new Error(`${error.message} ${hint}`, { cause: error });
}

/**
 * If CommonJS requires an ES module, tsx compiles it to CommonJS. That would load a second copy of this library, and the `@Webhook()` of that
 * copy is unknown here. Modules that were required before tsx is registered stay as they are, so this function requires them first.
 */
function keepOneLibrary(project: NodeJS.Require): void {
  for (const entry of ENTRIES) {
    try {
      project(`nestjs-entity-webhooks${entry}`);
    } catch {
      // The project lacks a peer dependency of this entry point, so none of its files requires the entry point.
    }
  }
}

async function withoutLoader(file: string): Promise<Record<string, unknown>> {
  try {
    // Newer versions of Node.js load TypeScript, but without decorators.
    return await importFile(file);
  } catch (cause) {
    throw new Error(
      `${file} is TypeScript, but its project has neither ts-node nor tsx. Install one of them (npm install --save-dev tsx), or compile the file and pass the compiled file.`,
      { cause },
    );
  }
}

function importFile(file: string): Promise<Record<string, unknown>> {
  return import(pathToFileURL(file).href) as Promise<Record<string, unknown>>;
}

/** Whether a file is an ES module, by the rules of Node.js for JavaScript. */
function isEsModule(file: string): boolean {
  if (/\.[cm]ts$/.test(file)) return file.endsWith('.mts');
  const manifest = nearest(file, 'package.json');
  if (manifest === undefined) return false;
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { type?: string }).type === 'module';
}

function nearest(file: string, name: string): string | undefined {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    const found = join(folder, name);
    if (existsSync(found)) return found;
    if (folder === dirname(folder)) return undefined;
  }
}

function resolved(project: NodeJS.Require, specifier: string): string | undefined {
  try {
    return project.resolve(specifier);
  } catch {
    return undefined;
  }
}
