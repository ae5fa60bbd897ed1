import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Banner } from '../../design/page.js';
import type { DeliveryDetails } from '../../session/shapes.js';
import { relativeInWords } from '../../words/dates.js';
import { t, type Key } from '../../words/words.js';
import { knownError } from '../deliveries/delivery-state.js';

/** Says in a sentence what went wrong, and what to do next. */
export function Explanation({ delivery }: { readonly delivery: DeliveryDetails }): ReactNode {
  const { state, lastErrorCode, lastStatus, nextAttemptAt, listenerId } = delivery;
  if (state === 'held') {
    return (
      <Banner tone="amber" title={t('explain.held')}>
        <p>
          {t('explain.held.text')} <a href={href(`/listeners/${listenerId}`)}>{t('explain.held.link')}</a>
        </p>
      </Banner>
    );
  }
  if (state === 'discarded') return <Banner tone="amber" title={t('explain.discarded')} />;
  if (lastErrorCode === null) return null;
  return (
    <Banner tone={state === 'exhausted' ? 'red' : 'amber'} title={sentence(lastErrorCode, lastStatus)}>
      <p>
        {nextStep(lastErrorCode, lastStatus)} {state === 'exhausted' && t('explain.exhausted')}
        {nextAttemptAt !== null && retryText(nextAttemptAt)}
      </p>
    </Banner>
  );
}

function retryText(at: string): string {
  return new Date(at).getTime() <= Date.now()
    ? t('explain.retry-now')
    : t('explain.retry', { when: relativeInWords(at) });
}

function sentence(code: string, status: number | null): string {
  if (code === 'HTTP_STATUS' && status !== null) return t('explain.HTTP_STATUS', { status: String(status) });
  return t(`explain.${knownError(code)}` as Key, { code });
}

const BY_STATUS: Readonly<Record<number, Key>> = {
  400: 'next.400',
  401: 'next.401',
  403: 'next.401',
  404: 'next.404',
  410: 'next.410',
  413: 'next.413',
  429: 'next.429',
};

function nextStep(code: string, status: number | null): string {
  if (code !== 'HTTP_STATUS' || status === null) return t(`next.${knownError(code)}` as Key);
  return t(BY_STATUS[status] ?? (status >= 500 ? 'next.5xx' : 'next.400'));
}
