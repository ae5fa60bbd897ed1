import type { LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';

import { BadRequestError, hintForApplication } from '../errors.js';
import { parseUrl } from '../parse-url.js';
import { show } from '../show.js';
import type { AddressGuard } from './address-guard.js';
import { addressesOf, hostOf } from './lookup.js';
import { isPortAllowed, type ResolvedSecurityOptions } from './security-options.js';

/** Maximum length of a URL, in characters, both as given and as stored. */
export const MAX_URL_LENGTH = 2048;

const LOOPBACK_NAMES = new Set(['localhost', 'localhost.localdomain', 'localhost6', 'ip6-localhost', 'ip6-loopback']);

/**
 * Checks the URL of a new listener. This function does not resolve the name in the URL. {@link assertListenerAddress} resolves and checks
 * the name. Each connection resolves and checks the name again, because the address of a name can change.
 *
 * The function changes the URL in one way only: it removes the fragment. A fragment is never sent.
 *
 * @returns the URL in canonical form. Store this form
 * @throws {@link BadRequestError} `INVALID_URL` (not an absolute URL, a space, a backslash, too long), `URL_SCHEME`
 * (not `https:`, nor `http:` where that is allowed), `URL_CREDENTIALS` (contains a user or password),
 * `URL_ADDRESS_BLOCKED` (a literal address, or a name of this machine, that the guard refuses), `URL_PORT_BLOCKED` (a
 * port that is not in `security.allowedPorts`)
 */
export function assertListenerUrl(
  url: string,
  guard: AddressGuard,
  { allowHttp, allowedPorts }: Pick<ResolvedSecurityOptions, 'allowHttp' | 'allowedPorts'>,
): URL {
  if (typeof url !== 'string' || url === '') throw invalidUrl('`url` must be a non-empty string.');
  if (url.length > MAX_URL_LENGTH) throw invalidUrl(`The URL must have at most ${MAX_URL_LENGTH} characters.`);
  // The WHATWG parser removes tabs and line breaks, trims spaces, and reads a backslash as a slash.
  if (/[\p{Cc}\s\\]/u.test(url))
    throw invalidUrl('The URL contains a space, a control character or a backslash. Percent-encode it.');

  const parsed = parseUrl(url);
  if (parsed === null) throw invalidUrl('The URL must be an absolute URL such as https://example.com/hooks.');
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
  if (authority === undefined) throw invalidUrl('The URL must have two slashes and a host after the scheme.');
  if (authority.includes('@') || parsed.username !== '' || parsed.password !== '') {
    throw new BadRequestError(
      'URL_CREDENTIALS',
      'The URL must not contain a user name or a password. Use a header instead.',
    );
  }
  if (parsed.port === '0') throw invalidUrl('The URL must not have port 0.');
  if (!isPortAllowed(parsed, allowedPorts)) {
    throw new BadRequestError(
      'URL_PORT_BLOCKED',
      'The URL has a port to which webhooks may not be sent.',
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
    throw invalidUrl(`The URL must have at most ${MAX_URL_LENGTH} characters after encoding.`);
  }
  return parsed;
}

/** How long the creation of a listener waits for the resolution of the name. */
const RESOLVE_LIMIT_MS = 3_000;

/**
 * Checks the addresses of the name in the URL of a new listener. A name that does not resolve is accepted. The name
 * may resolve later, and each connection checks the name again.
 *
 * @param lookup resolves names to addresses
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
    'The URL points to an address to which webhooks may not be sent.',
    hintForApplication(
      'URL_ADDRESS_BLOCKED',
      "Webhooks are sent only to public addresses. To allow other addresses, for example in tests, set security: { allowedAddresses: ['127.0.0.0/8'] }.",
    ),
  );
}

function invalidUrl(message: string): BadRequestError {
  return new BadRequestError('INVALID_URL', message);
}
