import { createHmac } from 'node:crypto';

import { anyMatches, decodeHex } from './signature-match.js';
import { SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

const HEADER = 'Google-Code-Project-Hosting-Hook-Hmac';
const MD5_BYTES = 16;

/**
 * The scheme of Google Code's post-commit hooks: the hex HMAC-MD5 of the body in
 * `Google-Code-Project-Hosting-Hook-Hmac`. The key is the UTF-8 bytes of the whole secret.
 *
 * Use this scheme only for receivers that already support it. The signature covers neither the id nor the timestamp, so
 * it cannot stop a replay. The header holds only one signature. So while the secrets of a rotation overlap, only the
 * newest secret signs. The scheme does not work if OpenSSL runs in FIPS mode, because FIPS mode has no MD5.
 */
export class GoogleCodeScheme extends SignatureScheme {
  readonly name = 'google-code';

  sign(input: SigningInput): Record<string, string> {
    const [newest] = input.secrets;
    return newest === undefined ? {} : { [HEADER]: hmac(newest, input.body).toString('hex') };
  }

  verify({ headers, secrets, body }: VerifyInput): boolean {
    const given = decodeHex(headers[HEADER.toLowerCase()] ?? '', MD5_BYTES);
    return anyMatches(
      given === null ? [] : [given],
      secrets.map((secret) => hmac(secret, body)),
    );
  }
}

function hmac(secret: string, body: Buffer): Buffer {
  return createHmac('md5', Buffer.from(secret, 'utf8')).update(body).digest();
}
