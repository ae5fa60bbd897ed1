import type { ReactNode } from 'react';
import { Banner } from '../../design/page.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { Chores } from './chores.js';
import { LoadedPart } from './loaded.js';
import { ProcessTable } from './process-table.js';
import { SendingCard } from './sending-card.js';

const POLL_MS = 5000;

export function Status(): ReactNode {
  const can = useCan();
  const sending = useLoaded('sending', (signal) => api.getSending(undefined, { signal }), POLL_MS);
  const chores = useLoaded('chores', (signal) => api.listChores(undefined, { signal }), POLL_MS);
  return (
    <>
      <LoadedPart loaded={sending} lines={3}>
        {(data) => <SendingCard sending={data} reload={sending.reload} />}
      </LoadedPart>
      {can('stats:read') && <Processes />}
      <LoadedPart loaded={chores} lines={5}>
        {({ items }) => <Chores chores={items} reload={chores.reload} />}
      </LoadedPart>
    </>
  );
}

function Processes(): ReactNode {
  const overview = useLoaded('overview', (signal) => api.getOverview(undefined, { signal }), POLL_MS);
  return (
    <LoadedPart loaded={overview} lines={4}>
      {({ processes }) =>
        processes.length > 0 ? (
          <ProcessTable processes={processes} />
        ) : (
          <Banner tone="amber" title={t('overview.no-process')}>
            <p>{t('overview.no-process.text')}</p>
          </Banner>
        )
      }
    </LoadedPart>
  );
}
