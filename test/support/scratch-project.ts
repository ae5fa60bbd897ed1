import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { inject } from 'vitest';

import type {} from './global-setup.js';

const run = promisify(execFile);

const POLL_MS = 50;

/** The root of the workspace. */
export const WORKSPACE = resolve(import.meta.dirname, '../..');

/** A fenced block of a Markdown file. */
export interface CodeBlock {
  /** From the comment before it, `<!-- tested: src/main.ts -->`; `null` without a comment. */
  name: string | null;
  language: string;
  code: string;
}

/** Every fenced block of a Markdown file of the workspace, in order. */
export async function codeBlocks(markdownFile: string): Promise<CodeBlock[]> {
  const markdown = await readFile(join(WORKSPACE, markdownFile), 'utf8');
  const fence = /(?:<!-- tested: (\S+) -->\s*)?^```(\w*)\n(.*?)^```$/gms;
  return [...markdown.matchAll(fence)].map(([, name = null, language = '', code = '']) => ({ name, language, code }));
}

/** The block with this name. */
export async function codeBlock(markdownFile: string, name: string): Promise<string> {
  const found = (await codeBlocks(markdownFile)).filter((block) => block.name === name);
  if (found.length !== 1) throw new Error(`${markdownFile} has ${found.length} blocks called ${name}`);
  return (found[0] as CodeBlock).code;
}

/** A folder outside the workspace, with the built library and its types, as users install it. */
export interface ScratchProject {
  folder: string;
  write(name: string, text: string): Promise<void>;
  /** Compiles the files strictly to `dist`. @throws with the output of the compiler */
  compile(): Promise<void>;
  /** Writes the files to `dist` as JavaScript, in a tenth of the time: reads no other files, and so checks no types. */
  transpile(): Promise<void>;
  /** Puts programs of `dist` and all packages that they load into one file each. A process then starts with half of the processor time. */
  bundle(...names: string[]): Promise<void>;
  /** Runs a command of a page, such as `npm run build`, in the folder. @throws with the output */
  shell(command: string, env?: Readonly<Record<string, string>>): Promise<void>;
  remove(): Promise<void>;
}

/** For the script of a page: `npx` runs the built program, because the real one would look into the registry. */
export const NPX = 'npx() { shift; node node_modules/nestjs-entity-webhooks/dist/cli/main.js "$@"; }';

/** The files of `nest new` (Nest 12, ESM, strict) that a build depends on. */
const NEST_NEW = {
  'package.json': { private: true, type: 'module', scripts: { build: 'nest build' } },
  'nest-cli.json': { sourceRoot: 'src', compilerOptions: { deleteOutDir: true } },
  'tsconfig.json': {
    compilerOptions: {
      module: 'nodenext',
      moduleResolution: 'nodenext',
      resolvePackageJsonExports: true,
      esModuleInterop: true,
      isolatedModules: true,
      declaration: true,
      emitDecoratorMetadata: true,
      experimentalDecorators: true,
      target: 'ES2023',
      outDir: './dist',
      rootDir: '.',
      skipLibCheck: true,
      strict: true,
      strictPropertyInitialization: false,
      types: ['node'],
    },
  },
  'tsconfig.build.json': {
    extends: './tsconfig.json',
    compilerOptions: { rootDir: './src' },
    include: ['src'],
    exclude: ['node_modules', 'test', 'dist', '**/*spec.ts'],
  },
};

export async function createScratchProject(): Promise<ScratchProject> {
  return projectIn(await mkdtemp(join(tmpdir(), 'webhooks-readme-')));
}

/**
 * A project that several suites use. The first suite builds it, and the run removes it at its end.
 *
 * @param build must not remember the folder of the project, which has another name afterwards
 * @returns the folder
 */
export function sharedProject(name: string, build: (project: ScratchProject) => Promise<void>): Promise<string> {
  return onceInRun(name, async (folder) => build(await projectIn(folder)));
}

async function projectIn(folder: string): Promise<ScratchProject> {
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  };
  try {
    await installDependencies(join(folder, 'node_modules'));
    for (const [name, content] of Object.entries(NEST_NEW)) await write(name, JSON.stringify(content));
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  return {
    folder,
    write,
    compile: () => compiler('-p', join(folder, 'tsconfig.build.json')),
    transpile: () =>
      compiler(
        '-p',
        join(folder, 'tsconfig.build.json'),
        '--noCheck',
        '--noResolve',
        '--types',
        '',
        '--declaration',
        'false',
      ),
    bundle: async (...names) => {
      // TypeORM 0.3 takes the place of 1.x when a program loads it.
      if (process.env['TYPEORM'] === '0.3') return;
      const script = join(import.meta.dirname, 'bundle.mjs');
      await run(process.execPath, [script, join(folder, 'dist'), ...names], { env: { ...process.env, NODE_ENV: '' } });
    },
    shell: (command, env = {}) => shell(command, { cwd: folder, env: { ...process.env, ...env } }),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

async function installDependencies(nodeModules: string): Promise<void> {
  const installed = join(WORKSPACE, 'node_modules');
  await mkdir(nodeModules);
  for (const name of await readdir(installed)) {
    if (name !== 'nestjs-entity-webhooks') await symlink(join(installed, name), join(nodeModules, name));
  }
  await cp(await builtLibrary(), join(nodeModules, 'nestjs-entity-webhooks'), { recursive: true });
}

/** The built library as a package. */
function builtLibrary(): Promise<string> {
  return onceInRun('library', buildLibrary);
}

/** Makes a folder that all suites of the run use. One worker makes it, once, because that takes longer than most suites. */
async function onceInRun(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const made = join(inject('run').folder, name);
  const failed = `${made}-failed`;
  // Only one worker can make this folder.
  if (await mkdir(`${made}-lock`).then(() => true, isTaken)) {
    await mkdir(`${made}-new`);
    await make(`${made}-new`).catch((error: Error) => writeFile(failed, error.message));
    if (!existsSync(failed)) await rename(`${made}-new`, made);
  }
  while (!existsSync(made)) {
    if (existsSync(failed)) throw new Error(await readFile(failed, 'utf8'));
    await pause(POLL_MS);
  }
  return made;
}

function isTaken(error: NodeJS.ErrnoException): false {
  if (error.code === 'EEXIST') return false;
  throw error;
}

async function buildLibrary(folder: string): Promise<void> {
  const source = join(WORKSPACE, 'libs/webhooks');
  await writeFile(join(folder, 'package.json'), await readFile(join(source, 'package.json')));
  // Packages of which the workspace has another version than the library.
  await cp(join(source, 'node_modules'), join(folder, 'node_modules'), { recursive: true });
  // `npm run typecheck` checks the types.
  const quick = ['--noCheck', '--sourceMap', 'false', '--inlineSources', 'false'];
  await compiler('-p', join(source, 'tsconfig.lib.json'), '--outDir', join(folder, 'dist'), ...quick);
}

/** TypeScript 7 takes a fourth of the time of 6. The build and the pack test use 6 and 5.9. */
export async function compiler(...args: string[]): Promise<void> {
  try {
    await run(process.execPath, [join(WORKSPACE, 'node_modules/typescript-7/bin/tsc'), ...args]);
  } catch (error) {
    throw new Error(`tsc ${args.join(' ')}\n${(error as { stdout: string }).stdout}`, { cause: error });
  }
}

async function shell(command: string, options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<void> {
  try {
    await run('sh', ['-c', command], options);
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${command}\n${stdout}${stderr}`, { cause: error });
  }
}
