import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A self-signed certificate: add `cert` to the trusted authorities to trust it. PEM. */
export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
}

/** Creates a certificate for a name, valid for two days. Needs `openssl`. */
export function certificateFor(name: string): Promise<TestCertificate> {
  return inFolder((folder) => request(folder, name, `DNS:${name}`));
}

/** A private authority: add `cert` to the trusted authorities. */
export interface TestAuthority {
  readonly cert: string;
  /** A certificate of this authority, for a client with this name or a server at `127.0.0.1`. */
  issue(name: string): Promise<TestCertificate>;
}

export async function authorityOf(name: string): Promise<TestAuthority> {
  const authority = await certificateFor(name);
  return {
    cert: authority.cert,
    issue: (of) =>
      inFolder(async (folder) => {
        const [cert, key] = [join(folder, 'ca.pem'), join(folder, 'ca-key.pem')];
        await Promise.all([writeFile(cert, authority.cert), writeFile(key, authority.key)]);
        return request(folder, of, `DNS:${of},IP:127.0.0.1`, ['-CA', cert, '-CAkey', key]);
      }),
  };
}

/** The same key, encrypted with a passphrase, as `openssl pkcs8` writes it. */
export function encryptedKey(key: string, passphrase: string, ...options: readonly string[]): Promise<string> {
  return inFolder(async (folder) => {
    const file = join(folder, 'key.pem');
    await writeFile(file, key);
    const { stdout } = await run('openssl', [
      ...['pkcs8', '-topk8', '-in', file, '-passout', `pass:${passphrase}`],
      ...options,
    ]);
    return stdout;
  });
}

async function request(
  folder: string,
  name: string,
  alsoCalled: string,
  options: readonly string[] = [],
): Promise<TestCertificate> {
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const names = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${alsoCalled}`];
  await run('openssl', ['req', '-x509', ...curve, '-days', '2', ...names, ...options, '-keyout', key, '-out', cert]);
  return { key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') };
}

/** Works in a temporary folder and deletes it. */
async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'webhooks-certificate-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
