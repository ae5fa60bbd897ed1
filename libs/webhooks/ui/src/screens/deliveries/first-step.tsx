import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { LinkButton } from '../../design/button.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';

/** What makes a first delivery: a listener, or else a test event for it. */
export function FirstStep(): ReactNode {
  const can = useCan();
  const listener = useFirstListener();
  if (listener === null && can('listeners:write')) {
    return (
      <LinkButton kind="primary" icon="plus" href={href('/listeners/new')}>
        {t('listeners.new')}
      </LinkButton>
    );
  }
  if (listener && can('tests:send')) {
    return (
      <LinkButton kind="primary" icon="send" href={href(`/listeners/${listener.id}`, { tab: 'test' })}>
        {t('test.send')}
      </LinkButton>
    );
  }
  if (!can('listeners:read')) return null;
  return <LinkButton href={href('/listeners')}>{t('deliveries.none.action')}</LinkButton>;
}

/** The newest active listener; `null` if there is no listener, `undefined` while it loads. */
function useFirstListener(): Listener | null | undefined {
  const can = useCan();
  const isAllowed = can('listeners:read');
  const { data } = useLoaded('first listener', async (signal) => {
    if (!isAllowed) return [];
    return (await api.listListeners({ query: { limit: 20 } }, { signal })).items;
  });
  return data && (data.find(({ state }) => state === 'active') ?? data[0] ?? null);
}
