import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { inject } from 'vitest';

import type {} from './global-setup.js';

const run = promisify(execFile);

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
  /** Runs a command of a page, such as `npm run build`, in the folder. @throws with the output */
  shell(command: string, env?: Readonly<Record<string, string>>): Promise<void>;
  remove(): Promise<void>;
}

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
  const folder = await mkdtemp(join(tmpdir(), 'webhooks-readme-'));
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

/** The built library as a package. It is built once in a run, because that takes longer than most suites. */
async function builtLibrary(): Promise<string> {
  const built = join(inject('run').folder, 'library');
  if (existsSync(built)) return built;
  const library = await mkdtemp(`${built}-`);
  const source = join(WORKSPACE, 'libs/webhooks');
  await writeFile(join(library, 'package.json'), await readFile(join(source, 'package.json')));
  await compiler('-p', join(source, 'tsconfig.lib.json'), '--outDir', join(library, 'dist'));
  try {
    await rename(library, built);
    return built;
  } catch (error) {
    // The other worker was faster.
    if (existsSync(built)) return built;
    throw error;
  }
}

async function compiler(...args: string[]): Promise<void> {
  try {
    await run(process.execPath, [join(WORKSPACE, 'node_modules/typescript/bin/tsc'), ...args]);
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
