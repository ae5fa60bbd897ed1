import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { TlsIdentity } from '../../sending/guarded-agent.js';
import { isDerivedInBoundedTime } from './encrypted-key.js';
import { InvalidListenerError } from '../../listener-errors.js';
import { openSealed, shownOf, writeSealed } from '../../secrets/sealed-document.js';
import type { Sealing } from '../../secrets/sealing.js';

/**
 * Who the sender is to a listener's server in TLS, and whom it believes: a client certificate, or private authorities, or both.
 * Everything in PEM.
 */
export interface ListenerTls {
  /** The client certificate, and behind it what leads to its root. At most 16 KiB and 10 certificates. */
  readonly cert?: string;
  /** Its private key: RSA of 2048 to 4096 bits, P-256, P-384, P-521, Ed25519 or Ed448. */
  readonly key?: string;
  /** Of an encrypted `key`; PBKDF2 with at most 100,000 iterations. The key is opened once, and sealed like any other. */
  readonly passphrase?: string;
  /**
   * The only authorities that may have signed the server's certificate. At most 16 KiB and 10 certificates.
   *
   * @defaultValue the public ones
   */
  readonly ca?: string;
}

/** What may be read of a certificate that a listener has. */
export interface ListenerCertificate {
  /** `CN=…, O=…`; at most 256 characters. */
  readonly subject: string;
  /** SHA-256 over the certificate, in hexadecimal with colons. */
  readonly fingerprint: string;
  readonly expiresAt: Date;
}

/** `tls` of a listener as it is shown: its certificates, never the key. */
export interface ShownListenerTls {
  /** The client certificate itself. */
  readonly certificate: ListenerCertificate | null;
  /** The authorities; empty: the public ones. */
  readonly ca: readonly ListenerCertificate[];
}

const MAX_CERTIFICATES = 10;
export const MAX_CERTIFICATES_LENGTH = 16 * 1024;
export const MAX_KEY_LENGTH = 8 * 1024;
export const MAX_PASSPHRASE_LENGTH = 1024;
const MAX_SUBJECT_LENGTH = 256;
/** A larger key costs each handshake milliseconds of the event loop. */
const RSA_BITS = { min: 2048, max: 4096 };
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];

/** An identity that was checked, and what may be shown of it. */
export interface CheckedTls {
  readonly identity: TlsIdentity;
  readonly shown: ShownListenerTls;
}

/**
 * Checks a client certificate and authorities. What is stored is what was understood: certificates and an open key, each
 * written anew.
 *
 * @throws InvalidListenerError `INVALID_TLS`, `INVALID_CERTIFICATE`, `INVALID_PRIVATE_KEY`, `CERTIFICATE_KEY_MISMATCH`,
 * `CERTIFICATE_EXPIRED`; the message repeats nothing that was given
 */
export function assertTls(given: unknown, now: number): CheckedTls {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw invalid('it is an object.');
  const { cert, key, passphrase, ca, ...others } = given as Record<string, unknown>;
  if (Object.keys(others).length) {
    throw invalid(
      'it has `cert`, `key`, `passphrase` and `ca`, and nothing else. Leave out `tls` to keep what is stored.',
    );
  }
  if ((cert === undefined) !== (key === undefined)) throw invalid('`cert` and `key` go together.');
  if (cert === undefined && ca === undefined) throw invalid('it has `cert` and `key`, or `ca`, or all of them.');
  if (passphrase !== undefined && key === undefined) throw invalid('`passphrase` is for `key`.');

  const chain = cert === undefined ? [] : certificatesOf('cert', cert, now);
  const authorities = ca === undefined ? [] : certificatesOf('ca', ca, now);
  const [own] = chain;
  const privateKey = own && keyOf(key, passphrase);
  if (own && privateKey && !own.checkPrivateKey(privateKey)) {
    throw new InvalidListenerError(
      'CERTIFICATE_KEY_MISMATCH',
      'The key in the tls of the listener is not that of the first certificate in `cert`.',
    );
  }
  const identity: TlsIdentity = {
    ...(privateKey ? { cert: pemOf(chain), key: String(privateKey.export({ type: 'pkcs8', format: 'pem' })) } : {}),
    ...(authorities.length ? { ca: pemOf(authorities) } : {}),
  };
  assertUsable(identity);
  return { identity, shown: { certificate: own ? summaryOf(own) : null, ca: authorities.map(summaryOf) } };
}

/** As it stands in the row of a listener. */
export function writeTls(
  { identity, shown }: CheckedTls,
  sealing: Sealing,
  place: { listenerId: string; url: string },
): string {
  return writeSealed(identity, shown, { sealing, use: 'tls', ...place });
}

/** What may be shown of it; it needs no key. */
export function shownTls(stored: string | null): ShownListenerTls | null {
  if (stored === null) return null;
  const { certificate, ca } = shownOf(stored) as ShownListenerTls;
  return { certificate: certificate && dated(certificate), ca: ca.map(dated) };
}

/** @throws UnreadableSecretError */
export function openTls(stored: string, sealing: Sealing, place: { listenerId: string; url: string }): TlsIdentity {
  return openSealed(stored, { sealing, use: 'tls', ...place }) as TlsIdentity;
}

/** JSON has no dates. */
function dated(certificate: ListenerCertificate): ListenerCertificate {
  return { ...certificate, expiresAt: new Date(certificate.expiresAt) };
}

function certificatesOf(property: 'cert' | 'ca', given: unknown, now: number): X509Certificate[] {
  const blocks = blocksOf(text(property, given, MAX_CERTIFICATES_LENGTH));
  if (!blocks.length || blocks.length > MAX_CERTIFICATES || blocks.some(({ label }) => label !== 'CERTIFICATE')) {
    throw invalidCertificate(property, `is 1 to ${MAX_CERTIFICATES} certificates in PEM, and nothing else`);
  }
  return blocks.map(({ pem }) => {
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(pem);
    } catch {
      throw invalidCertificate(property, 'holds a certificate that cannot be read');
    }
    // `true` for what is no time at all.
    if (!(Date.parse(certificate.validTo) > now)) {
      throw new InvalidListenerError(
        'CERTIFICATE_EXPIRED',
        `A certificate in \`${property}\` of the tls of the listener is expired since ${certificate.validTo}.`,
        { details: { property: `tls.${property}` } },
      );
    }
    return certificate;
  });
}

function keyOf(given: unknown, passphrase: unknown): KeyObject {
  const all = blocksOf(text('key', given, MAX_KEY_LENGTH));
  // OpenSSL writes the curve in front of a key.
  const [block, ...others] = all.filter(({ label }) => label !== 'EC PARAMETERS');
  if (!block?.label.endsWith('PRIVATE KEY') || others.length) {
    throw invalidKey('is one private key in PEM; an encrypted one is in PKCS#8');
  }
  const isEncrypted = block.label === 'ENCRYPTED PRIVATE KEY';
  const opened = passphrase === undefined ? {} : { passphrase: text('passphrase', passphrase, MAX_PASSPHRASE_LENGTH) };
  if (isEncrypted && !isDerivedInBoundedTime(block.der)) {
    throw invalidKey(
      'is encrypted otherwise than by PBES2 and PBKDF2 with at most 100,000 iterations: decrypt it first',
    );
  }
  let key: KeyObject;
  try {
    // The passphrase goes with the very bytes that were judged.
    key = createPrivateKey(
      isEncrypted ? { key: block.der, format: 'der', type: 'pkcs8', ...opened } : { key: block.pem, format: 'pem' },
    );
  } catch {
    throw invalidKey('cannot be read: it is damaged, or its passphrase is missing or another one');
  }
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  const isKnown =
    (key.asymmetricKeyType === 'rsa' && modulusLength >= RSA_BITS.min && modulusLength <= RSA_BITS.max) ||
    (key.asymmetricKeyType === 'ec' && CURVES.includes(namedCurve)) ||
    key.asymmetricKeyType === 'ed25519' ||
    key.asymmetricKeyType === 'ed448';
  if (!isKnown) throw invalidKey('is neither RSA of 2048 to 4096 bits, nor P-256, P-384, P-521, Ed25519 or Ed448');
  return key;
}

/** What OpenSSL does not take at its level of security, such as a certificate signed with MD5, would fail each attempt. */
function assertUsable(identity: TlsIdentity): void {
  try {
    createSecureContext(identity);
  } catch {
    throw invalidCertificate('cert', 'or `ca` holds what OpenSSL does not take, such as a weak key or signature');
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
    // Node writes a line for each part; of a certificate without a subject it has none.
    subject: (certificate.subject ?? '').replaceAll('\n', ', ').slice(0, MAX_SUBJECT_LENGTH),
    fingerprint: certificate.fingerprint256,
    expiresAt: new Date(certificate.validTo),
  };
}

function text(property: string, given: unknown, maxLength: number): string {
  if (typeof given === 'string' && given !== '' && given.length <= maxLength) return given;
  throw invalid(`\`${property}\` is text of 1 to ${maxLength} characters.`);
}

function invalid(message: string): InvalidListenerError {
  return new InvalidListenerError('INVALID_TLS', `The tls of the listener is not valid: ${message}`);
}

function invalidCertificate(property: 'cert' | 'ca', message: string): InvalidListenerError {
  return new InvalidListenerError('INVALID_CERTIFICATE', `In the tls of the listener \`${property}\` ${message}.`, {
    details: { property: `tls.${property}` },
  });
}

function invalidKey(message: string): InvalidListenerError {
  return new InvalidListenerError('INVALID_PRIVATE_KEY', `In the tls of the listener \`key\` ${message}.`, {
    details: { property: 'tls.key' },
  });
}
