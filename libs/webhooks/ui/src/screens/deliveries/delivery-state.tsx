import type { ReactNode } from 'react';
import { Badge, type Tone } from '../../design/badge.js';
import type { Delivery } from '../../session/shapes.js';
import { t, type Key } from '../../words/words.js';

type Shown = 'succeeded' | 'exhausted' | 'discarded' | 'held' | 'leased' | 'due' | 'retrying';

const TONES: Readonly<Record<Shown, Tone>> = {
  succeeded: 'green',
  exhausted: 'red',
  discarded: 'gray',
  held: 'gray',
  leased: 'blue',
  due: 'blue',
  retrying: 'amber',
};

/** A delivery that waits after a failure is retried: people look for it by another word. */
function shownState({ state, attemptCount }: Delivery): Shown {
  return state === 'due' && attemptCount > 0 ? 'retrying' : state;
}

export function DeliveryBadge({ delivery }: { readonly delivery: Delivery }): ReactNode {
  const state = shownState(delivery);
  return <Badge tone={TONES[state]}>{t(`state.${state}` satisfies Key)}</Badge>;
}

/** `204`, `503` or `Timed out`: how the last attempt ended. */
export function resultOf({ lastStatus, lastErrorCode }: Pick<Delivery, 'lastStatus' | 'lastErrorCode'>): string | null {
  if (lastStatus !== null) return `HTTP ${lastStatus}`;
  return lastErrorCode === null ? null : errorName(lastErrorCode);
}

const CODES = new Set([
  ...['HTTP_STATUS', 'REDIRECT', 'TIMEOUT', 'DNS_FAILED', 'CONNECTION_REFUSED', 'CONNECTION_FAILED', 'TLS_FAILED'],
  ...['PROXY_FAILED', 'INVALID_RESPONSE', 'AUTH_FAILED', 'ADDRESS_BLOCKED', 'URL_REFUSED'],
]);

/** Codes that only operators can act on have one sentence together. */
export function knownError(code: string): string {
  return CODES.has(code) ? code : 'OTHER';
}

export function errorName(code: string): string {
  const known = knownError(code);
  return known === 'OTHER' ? code : t(`error.${known}` as Key);
}
