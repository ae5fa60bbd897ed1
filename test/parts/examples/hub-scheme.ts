import { createHmac, timingSafeEqual } from 'node:crypto';
import { SignatureScheme, type SigningInput, type VerifyInput } from 'nestjs-entity-webhooks';

export class HubScheme extends SignatureScheme {
  readonly name = 'hub-sha256';

  sign({ body, secrets }: SigningInput): Record<string, string> {
    const [newest] = secrets; // the header has room for one signature
    return newest === undefined ? {} : { 'x-hub-signature-256': signature(newest, body) };
  }

  verify({ body, secrets, headers }: VerifyInput): boolean {
    const given = Buffer.from(headers['x-hub-signature-256'] ?? '');
    return secrets.some((secret) => {
      const expected = Buffer.from(signature(secret, body));
      return given.length === expected.length && timingSafeEqual(given, expected);
    });
  }
}

function signature(secret: string, body: Buffer): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}
