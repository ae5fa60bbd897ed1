import { existsSync, readFileSync } from 'node:fs';
import { createRequire, register } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Whether a file needs a loader before Node.js can import it. */
export function isTypeScript(file: string): boolean {
  return /\.[cm]?tsx?$/.test(file);
}

/** What the package can be loaded from besides its root. */
const ENTRIES = ['', '/migrations', '/receiver', '/receiver/nest', '/verify', '/testing'];

/**
 * Loads a TypeScript module with the `ts-node` or the `tsx` that the project of the file has. CommonJS is given to ts-node first, which writes
 * the decorator metadata that TypeORM reads the types of columns from; ES modules to tsx, as the ES module loader of ts-node resolves no
 * `exports` as newer packages write them.
 *
 * @param file absolute
 * @throws what the module or its loader throws, and an Error when the project has neither
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
    // The application's build checks types.
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
      // By its file: `exports` would give `require()` another one.
      (await import(pathToFileURL(join(dirname(manifest), `dist/${kind}/api/index.mjs`)).href)) as {
        register(options?: { tsconfig?: string }): unknown;
      };
    const tsconfig = nearest(file, 'tsconfig.json');
    // Its CommonJS loader takes the ones of the project from here, and would look in the working directory otherwise.
    if (tsconfig !== undefined) process.env.TSX_TSCONFIG_PATH ??= tsconfig;
    keepOneLibrary(project);
    (await api('esm')).register(tsconfig === undefined ? {} : { tsconfig });
    (await api('cjs')).register();
    return await importFile(file).catch((error: unknown) => {
      throw untypedColumn(error);
    });
  };
}

/** TypeORM asks for the compiler option `emitDecoratorMetadata` then, which the project may well have, and tsx cannot. */
function untypedColumn(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== 'ColumnTypeUndefinedError') return error;
  const hint =
    'tsx writes no decorator metadata: give the column a type, or install ts-node, or give the compiled file.';
  return new Error(`${error.message} ${hint}`, { cause: error });
}

/**
 * tsx makes CommonJS of ES modules that CommonJS requires: a second copy of this library, whose `@Webhook()` this one does not see. What was
 * required before stays as it is.
 */
function keepOneLibrary(project: NodeJS.Require): void {
  for (const entry of ENTRIES) {
    try {
      project(`nestjs-entity-webhooks${entry}`);
    } catch {
      // An entry whose peers the project lacks is required by nothing in it.
    }
  }
}

async function withoutLoader(file: string): Promise<Record<string, unknown>> {
  try {
    // Newer Node.js reads TypeScript, but none with decorators.
    return await importFile(file);
  } catch (cause) {
    throw new Error(
      `${file} is TypeScript, and its project has neither ts-node nor tsx. Install one of them (npm install --save-dev tsx), or compile the file first and give the compiled file.`,
      { cause },
    );
  }
}

function importFile(file: string): Promise<Record<string, unknown>> {
  return import(pathToFileURL(file).href) as Promise<Record<string, unknown>>;
}

/** As Node.js decides it for JavaScript. */
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
