import { randomUUID } from 'node:crypto';
import { BadRequestError } from '../../errors.js';
import { messageOf } from '../../foreign-text.js';
import { AddressGuard } from '../../sending/address-guard.js';
import { assertListenerUrl } from '../../sending/listener-url.js';
import { addressesOf, boundedLookup, hostOf } from '../../sending/lookup.js';
import type { PostResult } from '../../sending/post-result.js';
import { createWebhooksHttpService } from '../../sending/webhooks-http-service.js';
import { StandardScheme } from '../../signing/standard-scheme.js';
import { SECOND } from '../../time.js';
import type { LoadedDataSource } from '../data-source/open-data-source.js';
import { fail, ok, warn, type Check, type Finding } from './check.js';

const TIMEOUT_MS = 15 * SECOND;

/** Checks whether a request from this machine reaches a URL: the form of the URL, DNS, allowed addresses, TLS, and the answer. */
export const egress: Check = {
  name: 'egress',
  async run({ loaded, receiver: { url } }) {
    if (url === undefined) return null;
    return (await refusedUrl(url, loaded)) ?? answered(await post(loaded, url, signed('', COMPACT)));
  },
};

async function refusedUrl(text: string, { resolved: { security } }: LoadedDataSource): Promise<Finding | null> {
  const guard = new AddressGuard(security.allowedAddresses);
  try {
    const url = assertListenerUrl(text, guard, security);
    if (security.proxy?.resolvesNames) return null;
    const addresses = await addressesOf(boundedLookup(security.lookup), hostOf(url));
    const refused = addresses.filter(({ address }) => !guard.isAllowed(address)).map(({ address }) => address);
    if (!refused.length) return null;
    return fail(
      `${hostOf(url)} has an address that webhooks may not be sent to: ${refused.join(', ')}`,
      'Use a public address, or add the address range of the receiver to security.allowedAddresses.',
    );
  } catch (error) {
    if (error instanceof BadRequestError) {
      return fail(`${error.code}: ${error.message}`, messageOf(error.cause ?? 'Correct the URL.'));
    }
    return fail(
      `the name does not resolve: ${messageOf(error)}`,
      'Correct the name, or the name servers of this host.',
    );
  }
}

function answered({ status, error }: PostResult): Finding {
  if (status !== null) return ok(`answered ${status}`);
  const text = `${error?.code}: ${error?.message}`;
  if (error?.code === 'TLS_FAILED') {
    return fail(
      text,
      'The certificate of the receiver must be valid for its name. A private authority goes into `tls` of the listener.',
    );
  }
  return fail(text, 'Open the way from this host to the receiver: firewall, proxy (security.proxy), port.');
}

/** JSON with more spaces than JSON.stringify() writes. A receiver that parses JSON and verifies a new text of it refuses this body. */
const SPACED = Buffer.from('{ "type": "webhook.test",  "data": { "test": true } }');
const COMPACT = Buffer.from('{"type":"webhook.test","data":{"test":true}}');

/** Checks whether the receiver verifies the raw body, and not JSON that it has parsed and serialized again. */
export const rawBody: Check = {
  name: 'raw body',
  async run({ loaded, receiver: { url, secret } }) {
    if (url === undefined || secret === undefined) return null;
    if ((await refusedUrl(url, loaded)) !== null) return null; // the previous check reports this
    const spaced = await post(loaded, url, signed(secret, SPACED));
    if (isAccepted(spaced)) return ok('the receiver accepts a signed request byte for byte');
    const compact = await post(loaded, url, signed(secret, COMPACT));
    if (isAccepted(compact)) {
      return fail(
        `the receiver accepts compact JSON, and answers ${spaced.status} to the same JSON with spaces: it verifies parsed JSON`,
        'Verify the raw body. In Nest: NestFactory.create(AppModule, { rawBody: true }) and request.rawBody.',
      );
    }
    return warn(
      `the receiver does not accept a signed request: ${compact.status ?? compact.error?.code}`,
      'Check the secret of the receiver, and its log.',
    );
  },
};

function isAccepted({ status }: PostResult): boolean {
  return status !== null && status >= 200 && status < 300;
}

interface Signed {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

/** A test event. Without a secret it has no signature, so a receiver refuses it. A refusal also proves that the receiver answers. */
function signed(secret: string, body: Buffer): Signed {
  const id = `evt_${randomUUID()}`;
  const timestamp = Math.floor(Date.now() / 1_000);
  const signature = secret === '' ? {} : new StandardScheme().sign({ id, timestamp, body, secrets: [secret] });
  return {
    body,
    headers: {
      'content-type': 'application/json',
      'webhook-test': 'true',
      'webhook-id': id,
      'webhook-timestamp': String(timestamp),
      ...signature,
    },
  };
}

async function post(
  { resolved: { security } }: LoadedDataSource,
  url: string,
  { body, headers }: Signed,
): Promise<PostResult> {
  const http = createWebhooksHttpService({
    security,
    connectionsPerOrigin: 1,
    connectTimeoutMs: TIMEOUT_MS,
    lookup: boundedLookup(security.lookup),
  });
  try {
    return await http.post({ url, headers, body, timeoutMs: TIMEOUT_MS });
  } finally {
    await http.close();
  }
}
