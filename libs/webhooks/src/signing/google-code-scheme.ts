import { createHmac, timingSafeEqual } from 'node:crypto';

import type { SignatureScheme, SigningInput, VerifyInput } from './signature-scheme.js';

const HEADER = 'Google-Code-Project-Hosting-Hook-Hmac';

/**
 * The scheme of Google Code's post-commit hooks: the hex HMAC-MD5 of the body in
 * `Google-Code-Project-Hosting-Hook-Hmac`. The key is the secret exactly as it is written, in UTF-8.
 *
 * For receivers that already speak it. It covers neither the id nor the timestamp, so it cannot stop a replay, and it
 * has room for one signature: while a rotation overlaps only the newest secret signs. It does not work where OpenSSL
 * runs in FIPS mode, which has no MD5.
 */
export class GoogleCodeScheme implements SignatureScheme {
  readonly name = 'google-code';

  sign(input: SigningInput): Record<string, string> {
    const [newest] = input.secrets;
    return newest === undefined ? {} : { [HEADER]: hmac(newest, input.body).toString('hex') };
  }

  verify(input: VerifyInput): boolean {
    const given = input.headers[HEADER.toLowerCase()];
    if (given === undefined || !/^[0-9a-f]{32}$/i.test(given)) return false;
    const signature = Buffer.from(given, 'hex');
    let matches = false;
    for (const secret of input.secrets) {
      if (timingSafeEqual(signature, hmac(secret, input.body))) matches = true;
    }
    return matches;
  }
}

function hmac(secret: string, body: Buffer): Buffer {
  return createHmac('md5', Buffer.from(secret, 'utf8')).update(body).digest();
}
