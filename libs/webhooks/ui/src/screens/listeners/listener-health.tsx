import type { ReactNode } from 'react';
import { Badge, type Tone } from '../../design/badge.js';
import type { Listener } from '../../session/shapes.js';
import { relativeInWords } from '../../words/dates.js';
import { count, t } from '../../words/words.js';
import { errorName } from '../deliveries/delivery-state.js';

type Health = 'healthy' | 'failing' | 'pending' | 'disabled';

const TONES: Readonly<Record<Health, Tone>> = { healthy: 'green', failing: 'red', pending: 'amber', disabled: 'gray' };

export function healthOf({ state, failuresInARow }: Listener): Health {
  if (state !== 'active') return state;
  return failuresInARow > 0 ? 'failing' : 'healthy';
}

export function HealthBadge({ listener }: { readonly listener: Listener }): ReactNode {
  const health = healthOf(listener);
  return <Badge tone={TONES[health]}>{t(`health.${health}`)}</Badge>;
}

/** How the listener is, in a sentence. */
export function healthSentence(listener: Listener): string {
  const { failuresInARow, failingSince, nextAttemptAt, disabledReason, handshakeError, health } = listener;
  switch (healthOf(listener)) {
    case 'healthy':
      return t('health.healthy.text');
    case 'pending':
      return handshakeError === null ? t('health.pending.text') : t('health.pending.error', { code: handshakeError });
    case 'disabled':
      return disabledReason === null
        ? t('health.disabled.text')
        : t('health.disabled.reason', { reason: withoutStop(disabledReason) });
    case 'failing': {
      const since = failingSince === null ? '' : t('health.failing.since', { when: relativeInWords(failingSince) });
      const isDue = nextAttemptAt !== null && new Date(nextAttemptAt).getTime() <= Date.now();
      const next =
        nextAttemptAt === null || isDue ? '' : t('health.failing.next', { when: relativeInWords(nextAttemptAt) });
      const { lastErrorCode: code } = health;
      const reason = code === null ? '' : t('health.failing.error', { error: errorWithCode(code) });
      return [count('health.failing.text', failuresInARow), reason, since, next].filter(Boolean).join(' ');
    }
  }
}

/** `Timed out (TIMEOUT)`: the code is what people search for. */
function errorWithCode(code: string): string {
  const name = errorName(code);
  return name === code ? code : `${name} (${code})`;
}

/** A reason is written by people. The sentence around it has its own full stop. */
function withoutStop(text: string): string {
  return text.trimEnd().replace(/(?<![.。])[.。]$/, '');
}
