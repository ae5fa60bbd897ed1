import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { LinkButton } from '../../design/button.js';
import { Copy } from '../../design/copy.js';
import { Banner, Card, Page } from '../../design/page.js';
import { useCan } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';
import { ListenerCode } from '../listener/listener-code.js';
import { titleOf } from '../listeners/listener-name.js';

interface CreatedProps {
  readonly listener: Listener;
  readonly secret: string;
}

/** The only time that the secret is shown, with the code that uses it. */
export function Created({ listener, secret }: CreatedProps): ReactNode {
  const can = useCan();
  const isTestable = can('tests:send') && listener.state === 'active';
  return (
    <Page
      title={t('created.title')}
      subtitle={titleOf(listener)}
      crumbs={[{ text: t('listeners.title'), href: href('/listeners') }]}
    >
      <Card title={t('secret.title')}>
        <div className="stack">
          <p className="secondary">{t('secret.text')}</p>
          <div className="secret">
            <code className="break">{secret}</code>
            <Copy text={secret} label={t('action.copy')} kind="secondary" />
          </div>
        </div>
      </Card>
      <ListenerCode listener={listener} />
      <Banner tone="blue" title={t(isTestable ? 'created.next.test' : 'created.next')}>
        <p>{t(listener.state === 'pending' ? 'health.pending.text' : 'created.next.text')}</p>
      </Banner>
      <div className="row wrap">
        {isTestable && (
          <LinkButton kind="primary" icon="send" href={href(`/listeners/${listener.id}`, { tab: 'test' })}>
            {t('test.send')}
          </LinkButton>
        )}
        <LinkButton kind={isTestable ? 'secondary' : 'primary'} href={href(`/listeners/${listener.id}`)}>
          {t('secret.stored')}
        </LinkButton>
      </div>
    </Page>
  );
}
