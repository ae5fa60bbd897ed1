import type { WebhookClock } from '../clock.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { AddressGuard } from '../sending/address-guard.js';
import type { ListenerRow, ListenerValues } from '../store/listeners/listener-rows.js';
import { InvalidListenerError } from '../listener-errors.js';
import { assertAuth, shownAuth, writeAuth } from './credentials/listener-auth.js';
import { assertTls, writeTls, type CheckedTls } from './credentials/listener-tls.js';
import type { ListenerInput, UpdateListenerInput } from './listener.js';
import type { Sealing } from '../secrets/sealing.js';

/** What {@link Credentials} work with. */
export interface CredentialsParts {
  readonly clock: WebhookClock;
  readonly guard: AddressGuard;
  /** Resolves the name in a URL. @throws BadRequestError `URL_ADDRESS_BLOCKED` */
  readonly assertAddress: (url: URL) => Promise<void>;
  readonly options: Pick<ResolvedWebhooksOptions, 'security'>;
  readonly sealing: Sealing;
}

/**
 * What a listener's server asks for beside the signature, as it is given and as it is stored: `auth` and `tls`.
 *
 * Neither follows to another server by itself: whoever may change a URL would get to know the credentials, or choose which server takes
 * the sender for the certificate's owner.
 */
export class Credentials {
  constructor(private readonly parts: CredentialsParts) {}

  /** @param url of the listener, to whose origin it is bound @throws InvalidListenerError `INVALID_AUTH` */
  authOf(listenerId: string, given: ListenerInput['auth'], url: string): string | null {
    if (given === undefined || given === null) return null;
    const { guard, options, sealing } = this.parts;
    return writeAuth(assertAuth(given, guard, options.security), sealing, { listenerId, url });
  }

  /** The token endpoint's name, as that of the listener's URL: it is checked again at each connection. */
  async assertTokenAddress(stored: string | null): Promise<void> {
    const auth = shownAuth(stored);
    if (auth?.type === 'oauth2') await this.parts.assertAddress(new URL(auth.tokenUrl));
  }

  /** Of a listener that changes; `undefined`: as it was. @throws InvalidListenerError `INVALID_AUTH` */
  changedAuth(row: ListenerRow, given: UpdateListenerInput): Pick<ListenerValues, 'auth'> | undefined {
    if (given.auth !== undefined) return { auth: this.authOf(row.id, given.auth, given.url ?? row.url) };
    if (row.auth === null || isSameOrigin(given.url, row)) return undefined;
    throw new InvalidListenerError(
      'INVALID_AUTH',
      'The listener has `auth`, which is for the origin of its URL: give it again with the new URL, or null.',
    );
  }

  /** Checked once, as it costs milliseconds, and written by {@link tlsText} or {@link changedTls}. @throws as `assertTls` does */
  checkedTls(given: ListenerInput['tls']): CheckedTls | null | undefined {
    return given === undefined || given === null ? given : assertTls(given, this.parts.clock.now());
  }

  /** @throws InvalidListenerError `INVALID_TLS` */
  tlsText(listenerId: string, tls: CheckedTls | null | undefined, url: string): string | null {
    if (!tls) return null;
    if (new URL(url).protocol === 'https:') return writeTls(tls, this.parts.sealing, { listenerId, url });
    throw new InvalidListenerError('INVALID_TLS', 'The listener has `tls`, which is for `https:` URLs.');
  }

  /** Of a listener that changes; `undefined`: as it was. @throws InvalidListenerError `INVALID_TLS` */
  changedTls(
    row: ListenerRow,
    url: string | undefined,
    given: CheckedTls | null | undefined,
  ): Pick<ListenerValues, 'tls'> | undefined {
    if (given !== undefined) return { tls: this.tlsText(row.id, given, url ?? row.url) };
    if (row.tls === null || isSameOrigin(url, row)) return undefined;
    throw new InvalidListenerError(
      'INVALID_TLS',
      'The listener has `tls`, which is for the origin of its URL: give it again with the new URL, or null.',
    );
  }
}

function isSameOrigin(url: string | undefined, row: ListenerRow): boolean {
  return url === undefined || originOf(url) === originOf(row.url);
}

function originOf(url: string): string | null {
  return URL.canParse(url) ? new URL(url).origin : null;
}
