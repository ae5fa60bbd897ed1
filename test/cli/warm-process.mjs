// A process that runs many commands, one after the other. It loads TypeORM, Nest and the program once, which takes a new process longer
// than the command itself. The first argument is the folder of the built program.
import { register } from 'node:module';
import { pathToFileURL } from 'node:url';

// Each command loads its data source file again, as a new process does.
const hooks = `
  let loads = 0;
  export async function resolve(specifier, context, next) {
    const resolved = await next(specifier, context);
    if (!context.parentURL?.endsWith('/cli/data-source/load-data-source.js') || !specifier.startsWith('file:')) return resolved;
    return { ...resolved, url: resolved.url + '?load=' + (loads += 1) };
  }`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

const program = pathToFileURL(`${process.argv[2]}/`);
const { run } = await import(new URL('program.js', program).href);
const { terminalOf } = await import(new URL('terminal/terminal.js', program).href);

const written = { out: '', err: '' };
process.stdout.write = (text) => ((written.out += text), true);
process.stderr.write = (text) => ((written.err += text), true);

async function answer({ args, env }) {
  Object.assign(written, { out: '', err: '' });
  const before = { ...process.env };
  Object.assign(process.env, env);
  try {
    const code = await run(args, terminalOf(process));
    process.send({ code, ...written });
  } finally {
    for (const name of Object.keys(env)) delete process.env[name];
    Object.assign(process.env, before);
  }
}

process.on('message', (command) => void answer(command));
process.send('ready');
