import { createHmac } from 'node:crypto';

import { anyMatches, decodeHex } from './signature-match.js';
import { SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

const HEADER = 'X-Hub-Signature-256';
const PREFIX = 'sha256=';
const SHA256_BYTES = 32;

/**
 * The scheme of GitHub: `X-Hub-Signature-256: sha256=<hex HMAC-SHA256 of the body>`. The key is the UTF-8 bytes of the
 * whole secret, including a prefix.
 *
 * The signature covers neither an id nor a time. So it cannot stop a replay: an attacker who recorded a request can send the request
 * again with another id. The header holds only one signature. So while the secrets of a rotation overlap, only the newest secret
 * signs.
 *
 * @see https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
 */
export class GithubScheme extends SignatureScheme {
  readonly name = 'github';

  sign(input: SigningInput): Record<string, string> {
    const [newest] = input.secrets;
    return newest === undefined ? {} : { [HEADER]: PREFIX + hmac(newest, input.body).toString('hex') };
  }

  verify({ headers, secrets, body }: VerifyInput): boolean {
    const given = headers[HEADER.toLowerCase()] ?? '';
    const signature = given.startsWith(PREFIX) ? decodeHex(given.slice(PREFIX.length), SHA256_BYTES) : null;
    return anyMatches(
      signature === null ? [] : [signature],
      secrets.map((secret) => hmac(secret, body)),
    );
  }
}

function hmac(secret: string, body: Buffer): Buffer {
  return createHmac('sha256', Buffer.from(secret, 'utf8')).update(body).digest();
}
