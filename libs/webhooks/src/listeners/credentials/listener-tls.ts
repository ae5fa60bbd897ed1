import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { TlsIdentity } from '../../sending/connection-options.js';
import { isDerivedInBoundedTime } from './encrypted-key.js';
import { InvalidListenerError } from '../../listener-errors.js';
import { openSealed, shownOf, writeSealed } from '../../secrets/sealed-document.js';
import type { Sealing } from '../../secrets/sealing.js';

/**
 * TLS settings for the server of a listener: a client certificate with its key, or private authorities, or both. All values are in PEM.
 */
export interface ListenerTls {
  /** The client certificate, followed by its chain. At most 16 KiB and 10 certificates. */
  readonly cert?: string;
  /** The private key of `cert`: RSA of 2048 to 4096 bits, P-256, P-384, P-521, Ed25519 or Ed448. */
  readonly key?: string;
  /** The passphrase of an encrypted `key`: PBKDF2 with at most 100,000 iterations. The decrypted key is sealed like any other key. */
  readonly passphrase?: string;
  /**
   * The only authorities that may have signed the server's certificate. At most 16 KiB and 10 certificates.
   *
   * @defaultValue the public authorities
   */
  readonly ca?: string;
}

/** The visible properties of a certificate of a listener. */
export interface ListenerCertificate {
  /** `CN=…, O=…`; at most 256 characters. */
  readonly subject: string;
  /** SHA-256 over the certificate, in hexadecimal with colons. */
  readonly fingerprint: string;
  readonly expiresAt: Date;
}

/** The `tls` of a listener, in the form that services return. It contains properties of the certificates, and never the key. */
export interface ShownListenerTls {
  /** The client certificate, without its chain. */
  readonly certificate: ListenerCertificate | null;
  /** The private authorities. If the list is empty, the public authorities are used. */
  readonly ca: readonly ListenerCertificate[];
}

const MAX_CERTIFICATES = 10;
export const MAX_CERTIFICATES_LENGTH = 16 * 1024;
export const MAX_KEY_LENGTH = 8 * 1024;
export const MAX_PASSPHRASE_LENGTH = 1024;
const MAX_SUBJECT_LENGTH = 256;
/** Allowed lengths of an RSA key, in bits. A longer key blocks the event loop for milliseconds in each TLS handshake. */
const RSA_BITS = { min: 2048, max: 4096 };
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];

/** A checked identity, and the visible properties of its certificates. */
export interface CheckedTls {
  readonly identity: TlsIdentity;
  readonly shown: ShownListenerTls;
}

/**
 * Checks a client certificate and authorities. The result contains only the parsed parts: the certificates and the decrypted key,
 * serialized again as PEM.
 *
 * @throws InvalidListenerError `INVALID_TLS`, `INVALID_CERTIFICATE`, `INVALID_PRIVATE_KEY`, `CERTIFICATE_KEY_MISMATCH`,
 * `CERTIFICATE_EXPIRED`. The message contains no given value
 */
export function assertTls(given: unknown, now: number): CheckedTls {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw invalid('it must be an object.');
  const { cert, key, passphrase, ca, ...others } = given as Record<string, unknown>;
  if (Object.keys(others).length) {
    throw invalid(
      'it has only the properties `cert`, `key`, `passphrase` and `ca`. Leave `tls` out to keep the stored value.',
    );
  }
  if ((cert === undefined) !== (key === undefined)) throw invalid('`cert` and `key` must be given together.');
  if (cert === undefined && ca === undefined) throw invalid('it must have `cert` and `key`, or `ca`, or all three.');
  if (passphrase !== undefined && key === undefined) throw invalid('`passphrase` needs `key`.');

  const chain = cert === undefined ? [] : certificatesOf('cert', cert, now);
  const authorities = ca === undefined ? [] : certificatesOf('ca', ca, now);
  const [own] = chain;
  const privateKey = own && keyOf(key, passphrase);
  if (own && privateKey && !own.checkPrivateKey(privateKey)) {
    throw new InvalidListenerError(
      'CERTIFICATE_KEY_MISMATCH',
      'Invalid `tls.key`: the key does not belong to the first certificate in `tls.cert`.',
    );
  }
  const identity: TlsIdentity = {
    ...(privateKey ? { cert: pemOf(chain), key: String(privateKey.export({ type: 'pkcs8', format: 'pem' })) } : {}),
    ...(authorities.length ? { ca: pemOf(authorities) } : {}),
  };
  assertUsable(identity);
  return { identity, shown: { certificate: own ? summaryOf(own) : null, ca: authorities.map(summaryOf) } };
}

/** The text that is stored in the row of a listener. */
export function writeTls(
  { identity, shown }: CheckedTls,
  sealing: Sealing,
  place: { listenerId: string; url: string },
): string {
  return writeSealed(identity, shown, { sealing, use: 'tls', ...place });
}

/** Returns the visible properties of a stored `tls`. No sealing key is needed. */
export function shownTls(stored: string | null): ShownListenerTls | null {
  if (stored === null) return null;
  const { certificate, ca } = shownOf(stored) as ShownListenerTls;
  return { certificate: certificate && dated(certificate), ca: ca.map(dated) };
}

/** @throws UnreadableSecretError */
export function openTls(stored: string, sealing: Sealing, place: { listenerId: string; url: string }): TlsIdentity {
  return openSealed(stored, { sealing, use: 'tls', ...place }) as TlsIdentity;
}

/** Restores the Date of a certificate from JSON, because JSON has no dates. */
function dated(certificate: ListenerCertificate): ListenerCertificate {
  return { ...certificate, expiresAt: new Date(certificate.expiresAt) };
}

function certificatesOf(property: 'cert' | 'ca', given: unknown, now: number): X509Certificate[] {
  const blocks = blocksOf(text(property, given, MAX_CERTIFICATES_LENGTH));
  if (!blocks.length || blocks.length > MAX_CERTIFICATES || blocks.some(({ label }) => label !== 'CERTIFICATE')) {
    throw invalidCertificate(property, `it must be 1 to ${MAX_CERTIFICATES} certificates in PEM, and nothing else`);
  }
  return blocks.map(({ pem }) => {
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(pem);
    } catch {
      throw invalidCertificate(property, 'a certificate in it cannot be read');
    }
    // With this negated comparison, an unreadable date (NaN) is also refused.
    if (!(Date.parse(certificate.validTo) > now)) {
      throw new InvalidListenerError(
        'CERTIFICATE_EXPIRED',
        `Invalid \`tls.${property}\`: a certificate in this property expired at ${certificate.validTo}. Give a valid certificate.`,
        { details: { property: `tls.${property}` } },
      );
    }
    return certificate;
  });
}

function keyOf(given: unknown, passphrase: unknown): KeyObject {
  const all = blocksOf(text('key', given, MAX_KEY_LENGTH));
  // Before an EC key, OpenSSL writes a block with the curve. Skip this block.
  const [block, ...others] = all.filter(({ label }) => label !== 'EC PARAMETERS');
  if (!block?.label.endsWith('PRIVATE KEY') || others.length) {
    throw invalidKey('it must be one private key in PEM. An encrypted key must be in PKCS#8');
  }
  const isEncrypted = block.label === 'ENCRYPTED PRIVATE KEY';
  const opened = passphrase === undefined ? {} : { passphrase: text('passphrase', passphrase, MAX_PASSPHRASE_LENGTH) };
  if (isEncrypted && !isDerivedInBoundedTime(block.der)) {
    throw invalidKey(
      'an encrypted key must use PBES2 and PBKDF2 with at most 100,000 iterations. Otherwise decrypt it first',
    );
  }
  let key: KeyObject;
  try {
    // The passphrase is used with exactly the bytes that were checked above.
    key = createPrivateKey(
      isEncrypted ? { key: block.der, format: 'der', type: 'pkcs8', ...opened } : { key: block.pem, format: 'pem' },
    );
  } catch {
    throw invalidKey('it cannot be read. It is damaged, or the passphrase is missing or wrong');
  }
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  const isKnown =
    (key.asymmetricKeyType === 'rsa' && modulusLength >= RSA_BITS.min && modulusLength <= RSA_BITS.max) ||
    (key.asymmetricKeyType === 'ec' && CURVES.includes(namedCurve)) ||
    key.asymmetricKeyType === 'ed25519' ||
    key.asymmetricKeyType === 'ed448';
  if (!isKnown) throw invalidKey('it must be RSA of 2048 to 4096 bits, P-256, P-384, P-521, Ed25519 or Ed448');
  return key;
}

/**
 * Checks that OpenSSL accepts the certificates. OpenSSL refuses weak certificates, for example certificates that were
 * signed with MD5. Without this check, every attempt would fail.
 */
function assertUsable(identity: TlsIdentity): void {
  try {
    createSecureContext(identity);
  } catch {
    throw invalidCertificate(
      'cert',
      'OpenSSL refuses it or `tls.ca`, for example because of a weak key or a weak signature',
    );
  }
}

interface PemBlock {
  readonly label: string;
  readonly pem: string;
  readonly der: Buffer;
}

function blocksOf(given: string): PemBlock[] {
  const blocks = given.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END \1-----/g);
  return [...blocks].map(([pem, label = '', base64 = '']) => ({ label, pem, der: Buffer.from(base64, 'base64') }));
}

function pemOf(certificates: readonly X509Certificate[]): string {
  return certificates.map(String).join('');
}

function summaryOf(certificate: X509Certificate): ListenerCertificate {
  return {
    // Node.js writes each part of the subject in a separate line. For a certificate without a subject, Node.js
    // returns `undefined`.
    subject: (certificate.subject ?? '').replaceAll('\n', ', ').slice(0, MAX_SUBJECT_LENGTH),
    fingerprint: certificate.fingerprint256,
    expiresAt: new Date(certificate.validTo),
  };
}

function text(property: string, given: unknown, maxLength: number): string {
  if (typeof given === 'string' && given !== '' && given.length <= maxLength) return given;
  throw invalid(`\`${property}\` must be a string of 1 to ${maxLength} characters.`);
}

function invalid(message: string): InvalidListenerError {
  return new InvalidListenerError('INVALID_TLS', `Invalid \`tls\`: ${message}`);
}

function invalidCertificate(property: 'cert' | 'ca', message: string): InvalidListenerError {
  return new InvalidListenerError('INVALID_CERTIFICATE', `Invalid \`tls.${property}\`: ${message}.`, {
    details: { property: `tls.${property}` },
  });
}

function invalidKey(message: string): InvalidListenerError {
  return new InvalidListenerError('INVALID_PRIVATE_KEY', `Invalid \`tls.key\`: ${message}.`, {
    details: { property: 'tls.key' },
  });
}
