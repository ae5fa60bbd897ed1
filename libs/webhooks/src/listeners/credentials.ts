import type { WebhookClock } from '../clock.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { parseUrl } from '../parse-url.js';
import type { AddressGuard } from '../sending/address-guard.js';
import type { ListenerRow, ListenerValues } from '../store/listeners/listener-rows.js';
import { InvalidListenerError } from '../listener-errors.js';
import { assertAuth, shownAuth, writeAuth } from './credentials/listener-auth.js';
import { assertTls, writeTls, type CheckedTls } from './credentials/listener-tls.js';
import type { ListenerInput, UpdateListenerInput } from './listener.js';
import type { Sealing } from '../secrets/sealing.js';

/** The dependencies of {@link Credentials}. */
export interface CredentialsParts {
  readonly clock: WebhookClock;
  readonly guard: AddressGuard;
  /** Resolves the name in a URL. @throws BadRequestError `URL_ADDRESS_BLOCKED` */
  readonly assertAddress: (url: URL) => Promise<void>;
  readonly options: Pick<ResolvedWebhooksOptions, 'security'>;
  readonly sealing: Sealing;
}

/**
 * Checks and stores the credentials of listeners: `auth` and `tls`.
 *
 * Credentials are bound to the origin of the URL. Otherwise a person who may change the URL could send the credentials to any server. On
 * that server, the person could read `auth`. The person could also use the client certificate to log in to any server.
 */
export class Credentials {
  constructor(private readonly parts: CredentialsParts) {}

  /** @param url the URL of the listener: `auth` is bound to its origin @throws InvalidListenerError `INVALID_AUTH` */
  authOf(listenerId: string, given: ListenerInput['auth'], url: string): string | null {
    if (given === undefined || given === null) return null;
    const { guard, options, sealing } = this.parts;
    return writeAuth(assertAuth(given, guard, options.security), sealing, { listenerId, url });
  }

  /**
   * Checks the address of the token endpoint in the same way as the address of the URL. Each connection checks the
   * address again.
   */
  async assertTokenAddress(stored: string | null): Promise<void> {
    const auth = shownAuth(stored);
    if (auth?.type === 'oauth2') await this.parts.assertAddress(new URL(auth.tokenUrl));
  }

  /**
   * Returns the `auth` of a changed listener. @returns `undefined` if `auth` does not change @throws InvalidListenerError
   * `INVALID_AUTH`
   */
  changedAuth(row: ListenerRow, given: UpdateListenerInput): Pick<ListenerValues, 'auth'> | undefined {
    if (given.auth !== undefined) return { auth: this.authOf(row.id, given.auth, given.url ?? row.url) };
    if (row.auth === null || isSameOrigin(given.url, row)) return undefined;
    throw new InvalidListenerError(
      'INVALID_AUTH',
      'The listener has `auth` for the origin of its current URL. With a URL of another origin, give `auth` again, or set `auth` to null.',
    );
  }

  /**
   * Checks `tls`. The check takes milliseconds, so it runs only once. {@link tlsText} or {@link changedTls} then write
   * the result.
   *
   * @throws the errors of `assertTls`
   */
  checkedTls(given: ListenerInput['tls']): CheckedTls | null | undefined {
    return given === undefined || given === null ? given : assertTls(given, this.parts.clock.now());
  }

  /** @throws InvalidListenerError `INVALID_TLS` */
  tlsText(listenerId: string, tls: CheckedTls | null | undefined, url: string): string | null {
    if (!tls) return null;
    if (new URL(url).protocol === 'https:') return writeTls(tls, this.parts.sealing, { listenerId, url });
    throw new InvalidListenerError('INVALID_TLS', '`tls` needs an `https:` URL. Change the URL, or set `tls` to null.');
  }

  /**
   * Returns the `tls` of a changed listener. @returns `undefined` if `tls` does not change @throws InvalidListenerError
   * `INVALID_TLS`
   */
  changedTls(
    row: ListenerRow,
    url: string | undefined,
    given: CheckedTls | null | undefined,
  ): Pick<ListenerValues, 'tls'> | undefined {
    if (given !== undefined) return { tls: this.tlsText(row.id, given, url ?? row.url) };
    if (row.tls === null || isSameOrigin(url, row)) return undefined;
    throw new InvalidListenerError(
      'INVALID_TLS',
      'The listener has `tls` for the origin of its current URL. With a URL of another origin, give `tls` again, or set `tls` to null.',
    );
  }
}

function isSameOrigin(url: string | undefined, row: ListenerRow): boolean {
  return url === undefined || originOf(url) === originOf(row.url);
}

function originOf(url: string): string | null {
  return parseUrl(url)?.origin ?? null;
}
