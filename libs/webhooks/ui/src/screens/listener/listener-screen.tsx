import type { ReactNode } from 'react';
import { changeQuery, href, usePlace } from '../../app/router.js';
import { Banner, Card, Page } from '../../design/page.js';
import { Failed, Skeleton } from '../../design/states.js';
import { TabList } from '../../design/tab-list.js';
import { api } from '../../session/api.js';
import { rememberListeners } from '../../session/listener-names.js';
import { useCan } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { absolute } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { healthOf, healthSentence, HealthBadge } from '../listeners/listener-health.js';
import { titleOf } from '../listeners/listener-name.js';
import { AskAgain } from './ask-again.js';
import { ListenerActions } from './listener-actions.js';
import { ListenerCode } from './listener-code.js';
import { ListenerDeliveries } from './listener-deliveries.js';
import { ListenerOverview } from './listener-overview.js';
import { ListenerSettings } from './listener-settings.js';
import { ListenerTest } from './listener-test.js';

const POLL_MS = 10_000;

export function ListenerScreen({ id }: { readonly id: string }): ReactNode {
  const { data, error, reload } = useLoaded(
    `listener ${id}`,
    async (signal) => {
      const listener = await api.getListener({ id }, { signal });
      rememberListeners([listener]);
      return listener;
    },
    POLL_MS,
  );
  if (data) return <Shown listener={data} reload={reload} />;
  return (
    <Page title={t('listener.title')} crumbs={[{ text: t('listeners.title'), href: href('/listeners') }]}>
      <Card>{error === undefined ? <Skeleton lines={8} /> : <Failed error={error} retry={reload} />}</Card>
    </Page>
  );
}

interface ShownProps {
  readonly listener: Listener;
  readonly reload: () => void;
}

/** What is special at the moment: a rotation that has not ended, and versions that the application no longer has. */
function Notices({ listener }: { readonly listener: Listener }): ReactNode {
  const { oldSecretUntil, oldSigningKeyUntil, missingVersions } = listener;
  const missing = missingVersions.map(({ type, version }) => `${type} ${version}`).join(', ');
  return (
    <>
      {missing !== '' && (
        <Banner tone="amber" title={t('listener.missing-versions', { versions: missing })}>
          <p>{t('listener.missing-versions.text')}</p>
        </Banner>
      )}
      {oldSecretUntil !== null && (
        <Banner tone="blue" title={t('listener.rotating', { when: absolute(oldSecretUntil) })} />
      )}
      {oldSigningKeyUntil !== null && (
        <Banner tone="blue" title={t('listener.rotating-key', { when: absolute(oldSigningKeyUntil) })} />
      )}
    </>
  );
}

const TONES = { healthy: 'green', failing: 'red', pending: 'amber', disabled: 'amber' } as const;

function Shown({ listener, reload }: ShownProps): ReactNode {
  const { query } = usePlace();
  const can = useCan();
  const tabs = [
    ...(can('stats:read') ? (['overview'] as const) : []),
    ...(can('deliveries:read') ? (['deliveries'] as const) : []),
    'settings' as const,
    ...(can('tests:send') ? (['test'] as const) : []),
    'code' as const,
  ];
  const tab = tabs.find((one) => one === query.get('tab')) ?? tabs[0] ?? 'settings';
  return (
    <Page
      title={titleOf(listener)}
      mark={<HealthBadge listener={listener} />}
      subtitle={listener.description ?? undefined}
      crumbs={[{ text: t('listeners.title'), href: href('/listeners') }]}
      actions={<ListenerActions listener={listener} reload={reload} />}
    >
      <Banner
        tone={TONES[healthOf(listener)]}
        title={healthSentence(listener)}
        actions={
          listener.state === 'pending' && can('listeners:write') ? (
            <AskAgain listener={listener} reload={reload} />
          ) : undefined
        }
      />
      <Notices listener={listener} />
      <TabList
        label={t('listener.parts')}
        tabs={tabs.map((one) => [one, t(`listener.tab.${one}`)])}
        value={tab}
        onChange={(value) => changeQuery({ tab: value })}
      >
        {tab === 'overview' && <ListenerOverview listener={listener} />}
        {tab === 'deliveries' && <ListenerDeliveries listenerId={listener.id} />}
        {tab === 'settings' && <ListenerSettings listener={listener} reload={reload} />}
        {tab === 'test' && <ListenerTest listener={listener} />}
        {tab === 'code' && <ListenerCode listener={listener} />}
      </TabList>
    </Page>
  );
}
