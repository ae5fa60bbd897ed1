import { createHmac } from 'node:crypto';

import { anyMatches, decodeHex } from './signature-match.js';
import { SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

const HEADER = 'Google-Code-Project-Hosting-Hook-Hmac';
const MD5_BYTES = 16;

/**
 * The scheme of Google Code's post-commit hooks: the hex HMAC-MD5 of the body in
 * `Google-Code-Project-Hosting-Hook-Hmac`. The key is the secret exactly as it is written, in UTF-8.
 *
 * For receivers that already speak it. It covers neither the id nor the timestamp, so it cannot stop a replay, and it
 * has room for one signature: while a rotation overlaps only the newest secret signs. It does not work where OpenSSL
 * runs in FIPS mode, which has no MD5.
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
