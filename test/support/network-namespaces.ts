import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';

/** Makes a namespace with a link, and a filter that drops packets: everything that a network of `test/network` needs. */
const steps = (name: string): readonly string[][] => [
  ['ip', 'netns', 'add', name],
  ['ip', '-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'other'],
  ['tc', '-n', name, 'qdisc', 'add', 'dev', 'one', 'clsact'],
  ['tc', '-n', name, 'filter', 'add', 'dev', 'one', 'ingress', 'bpf', 'da', 'bytecode', '1,6 0 0 0'],
  ['ip', 'netns', 'exec', name, 'ss', '-Htn'],
];

/** @returns `true` if this process can make network namespaces, or the command that failed, with its error */
export function networkNamespaces(): true | string {
  const name = `webhooks-test-${randomBytes(4).toString('hex')}`;
  for (const [command, ...args] of steps(name) as [string, ...string[]][]) {
    const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
    if (status === 0) continue;
    spawnSync('ip', ['netns', 'delete', name]);
    return `${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`;
  }
  spawnSync('ip', ['netns', 'delete', name]);
  return true;
}
