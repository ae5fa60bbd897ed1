import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { LinkButton } from '../../design/button.js';
import { visible } from '../../design/code.js';
import { Banner } from '../../design/page.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { Sending } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { relativeInWords } from '../../words/dates.js';
import { t } from '../../words/words.js';

/** Nothing is sent: operators see why, and others that it is so. */
export function PausedBanner(): ReactNode {
  const can = useCan();
  const isOperator = can('system:read');
  const { data } = useLoaded('sending', async (signal) =>
    isOperator ? api.getSending(undefined, { signal }) : undefined,
  );
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
      {data?.reason != null && <p className="break">{visible(data.reason)}</p>}
      <p>{data === undefined ? t('overview.paused.text') : whoAndWhen(data)}</p>
    </Banner>
  );
}

/** `Paused 5 min. ago by ann.` */
export function whoAndWhen({ since, actor }: Sending): string {
  if (since === null) return t('overview.paused.text');
  const when = relativeInWords(since);
  return actor === null
    ? t('overview.paused.since', { when })
    : t('overview.paused.by', { when, actor: visible(actor) });
}
