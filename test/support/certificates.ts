import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A certificate that signed itself: whoever trusts `cert` as an authority trusts it. In PEM. */
export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
}

/** A new one for a name, good for two days; nothing of it stays on the disk. Needs `openssl`. */
export async function certificateFor(name: string): Promise<TestCertificate> {
  const folder = await mkdtemp(join(tmpdir(), 'webhooks-certificate-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  try {
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const names = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`];
    await run('openssl', ['req', '-x509', ...curve, '-days', '2', ...names, '-keyout', key, '-out', cert]);
    return { key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
