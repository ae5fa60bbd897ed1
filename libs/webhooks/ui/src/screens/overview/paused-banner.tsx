import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { LinkButton } from '../../design/button.js';
import { visible } from '../../design/code.js';
import { Banner } from '../../design/page.js';
import { useCan } from '../../session/session.js';
import type { Overview, Sending } from '../../session/shapes.js';
import { relativeInWords } from '../../words/dates.js';
import { t } from '../../words/words.js';

/** Nothing is sent: operators see why, and others that it is so. */
export function PausedBanner({ pause }: { readonly pause: NonNullable<Overview['pause']> }): ReactNode {
  const isOperator = useCan()('system:read');
  return (
    <Banner
      tone="amber"
      title={t('overview.paused')}
      actions={
        isOperator && (
          <LinkButton isSmall href={href('/system')}>
            {t('overview.paused.open')}
          </LinkButton>
        )
      }
    >
      {pause.reason !== null && <p className="break">{visible(pause.reason)}</p>}
      <p>{isOperator ? whoAndWhen(pause) : t('overview.paused.text')}</p>
    </Banner>
  );
}

/** `Paused 5 min. ago by ann.` */
export function whoAndWhen({ since, actor }: Pick<Sending, 'since' | 'actor'>): string {
  if (since === null) return t('overview.paused.text');
  const when = relativeInWords(since);
  return actor === null
    ? t('overview.paused.since', { when })
    : t('overview.paused.by', { when, actor: visible(actor) });
}
