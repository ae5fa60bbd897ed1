import type { LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';

import { BadRequestError, hintForApplication } from '../errors.js';
import { show } from '../options/show.js';
import type { AddressGuard } from './address-guard.js';
import { addressesOf, hostOf } from './lookup.js';
import { isPortAllowed, type ResolvedSecurityOptions } from './security-options.js';

/** Longest URL of a listener, in characters, as it was given and as it is stored. */
export const MAX_URL_LENGTH = 2048;

const LOOPBACK_NAMES = new Set(['localhost', 'localhost.localdomain', 'localhost6', 'ip6-localhost', 'ip6-loopback']);

/**
 * Refuses, when a listener is created, a URL that no webhook may go to. Names are not resolved here: that is
 * {@link assertListenerAddress}, and it is done again at every connection, as what a name points to can change.
 *
 * Nothing is corrected silently, except that a fragment, which is never sent, is cut off.
 *
 * @returns the URL in its canonical form, which is what to store
 * @throws {@link BadRequestError} `INVALID_URL` (no absolute URL, spaces, backslashes, too long), `URL_SCHEME` (neither
 * `https:` nor, where allowed, `http:`), `URL_CREDENTIALS` (a user or password in it), `URL_ADDRESS_BLOCKED` (a literal
 * address or a name of this machine that the guard refuses), `URL_PORT_BLOCKED` (a port outside `security.allowedPorts`)
 */
export function assertListenerUrl(
  url: string,
  guard: AddressGuard,
  { allowHttp, allowedPorts }: Pick<ResolvedSecurityOptions, 'allowHttp' | 'allowedPorts'>,
): URL {
  if (typeof url !== 'string' || url === '') throw invalidUrl('A listener needs a URL.');
  if (url.length > MAX_URL_LENGTH) throw invalidUrl(`The URL is longer than ${MAX_URL_LENGTH} characters.`);
  // The WHATWG parser drops tabs and line ends, trims spaces and reads a backslash as a slash.
  if (/[\p{Cc}\s\\]/u.test(url))
    throw invalidUrl('The URL holds a space, a control character or a backslash: encode it.');

  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null)
    throw invalidUrl('The URL cannot be read as an absolute one, such as https://example.com/hooks.');
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') {
    throw new BadRequestError('URL_SCHEME', `The URL must start with https://${allowHttp ? ' or http://' : ''}.`);
  }
  if (parsed.protocol === 'http:' && !allowHttp) {
    throw new BadRequestError(
      'URL_SCHEME',
      'The URL must start with https://: http:// is not allowed here.',
      hintForApplication('URL_SCHEME', 'The option security.allowHttp allows http: URLs.'),
    );
  }
  const authority = /^https?:\/\/([^/?#]+)/i.exec(url)?.[1];
  if (authority === undefined) throw invalidUrl('The URL needs two slashes and a host after its scheme.');
  if (authority.includes('@') || parsed.username !== '' || parsed.password !== '') {
    throw new BadRequestError('URL_CREDENTIALS', 'The URL must not hold a user name or a password: use a header.');
  }
  if (parsed.port === '0') throw invalidUrl('Port 0 cannot be connected to.');
  if (!isPortAllowed(parsed, allowedPorts)) {
    throw new BadRequestError(
      'URL_PORT_BLOCKED',
      'The URL has a port that webhooks may not be sent to.',
      hintForApplication('URL_PORT_BLOCKED', `The option security.allowedPorts is ${show(allowedPorts)}.`),
    );
  }

  const host = hostOf(parsed);
  const name = host.replace(/\.$/, '');
  const blocked =
    isIP(host) !== 0
      ? !guard.isAllowed(host)
      : (LOOPBACK_NAMES.has(name) || name.endsWith('.localhost')) &&
        !guard.isAllowed('127.0.0.1') &&
        !guard.isAllowed('::1');
  if (blocked) throw blockedAddress();

  parsed.hash = '';
  if (parsed.href.length > MAX_URL_LENGTH) {
    throw invalidUrl(`The URL is longer than ${MAX_URL_LENGTH} characters once it is encoded.`);
  }
  return parsed;
}

/** How long creating a listener waits for the name in its URL. */
const RESOLVE_LIMIT_MS = 3_000;

/**
 * Refuses, when a listener is created, a URL whose name has an address that no webhook may go to, as {@link assertListenerUrl}
 * refuses the address itself. A name that does not resolve now may do so later, and is left to the check at the connection.
 *
 * @param lookup how names become addresses
 * @throws {@link BadRequestError} `URL_ADDRESS_BLOCKED`
 */
export async function assertListenerAddress(url: URL, guard: AddressGuard, lookup: LookupFunction): Promise<void> {
  const host = hostOf(url);
  if (isIP(host) !== 0) {
    if (!guard.isAllowed(host)) throw blockedAddress();
    return;
  }
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<readonly LookupAddress[]>((resolve) => {
    timer = setTimeout(() => resolve([]), RESOLVE_LIMIT_MS);
  });
  const addresses = await Promise.race([addressesOf(lookup, host).catch(() => []), limit]);
  clearTimeout(timer);
  if (!addresses.every(({ address }) => guard.isAllowed(address))) throw blockedAddress();
}

function blockedAddress(): BadRequestError {
  return new BadRequestError(
    'URL_ADDRESS_BLOCKED',
    'The URL points to an address that webhooks may not be sent to.',
    hintForApplication(
      'URL_ADDRESS_BLOCKED',
      "Webhooks go to public addresses only. For tests and receivers of your own name the range: security: { allowedAddresses: ['127.0.0.0/8'] }.",
    ),
  );
}

function invalidUrl(message: string): BadRequestError {
  return new BadRequestError('INVALID_URL', message);
}
