import type { ReactNode } from 'react';
import { changeQuery, usePlace } from '../../app/router.js';
import { Page } from '../../design/page.js';
import { TabList } from '../../design/tab-list.js';
import { t } from '../../words/words.js';
import { AuditLog } from './audit-log.js';
import { Damaged } from './damaged.js';
import { Sender } from './sender.js';
import { OpenSessions } from './sessions.js';
import { Status } from './status.js';

const TABS = ['status', 'damaged', 'audit', 'sessions', 'sender'] as const;

/** For operators: the processes, the switch, and what was changed. */
export function SystemScreen(): ReactNode {
  const { query } = usePlace();
  const tab = TABS.find((one) => one === query.get('tab')) ?? 'status';
  return (
    <Page title={t('system.title')} subtitle={t('system.subtitle')}>
      <TabList
        label={t('system.parts')}
        tabs={TABS.map((one) => [one, t(`system.tab.${one}`)])}
        value={tab}
        onChange={(value) => changeQuery({ tab: value, action: null, actor: null, target: null })}
      >
        {tab === 'status' && <Status />}
        {tab === 'damaged' && <Damaged />}
        {tab === 'audit' && <AuditLog />}
        {tab === 'sessions' && <OpenSessions />}
        {tab === 'sender' && <Sender />}
      </TabList>
    </Page>
  );
}
