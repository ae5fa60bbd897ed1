import type { ReactNode } from 'react';
import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import { Badge } from '../../design/badge.js';
import { Button } from '../../design/button.js';
import { Card } from '../../design/page.js';
import { Table, type TableColumns } from '../../design/table.js';
import { Upcoming } from '../../design/time.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { inShard } from '../../session/shards.js';
import { useCan } from '../../session/session.js';
import { t } from '../../words/words.js';

interface ChoresProps {
  readonly chores: OperationTypes['listChores']['answer']['items'];
  readonly reload: () => void;
}

/** Periodic work, when it is due, and a button that makes it due now. */
export function Chores({ chores, reload }: ChoresProps): ReactNode {
  const can = useCan();
  const start = async () => {
    await api.runChores();
    done(t('system.chores.started'));
  };
  const { isBusy, run } = useAction(t('system.chores.not-started'), start, reload);
  return (
    <Card
      title={t('system.chores')}
      isFlush
      actions={
        can('system:write') && (
          <Button isSmall icon="play" isBusy={isBusy} onClick={() => void run()}>
            {t('system.chores.run')}
          </Button>
        )
      }
    >
      <p className="secondary card-note">
        {t('system.chores.text')} {chores.length === 0 && t('system.chores.none')}
      </p>
      {chores.length > 0 && <Table label={t('system.chores')} columns={columns()} rows={chores} keyOf={nameOf} />}
    </Card>
  );
}

type Chore = ChoresProps['chores'][number];

function nameOf({ name, shard }: Chore): string {
  return inShard(name, { shard });
}

function columns(): TableColumns<Chore> {
  return [
    { name: t('column.name'), className: 'cell-name', cell: (chore) => <span className="mono">{nameOf(chore)}</span> },
    {
      name: t('column.state'),
      cell: ({ isRunning }) => (
        <Badge tone={isRunning ? 'blue' : 'gray'}>
          {t(isRunning ? 'system.chores.running' : 'system.chores.waiting')}
        </Badge>
      ),
    },
    { name: t('column.due'), cell: ({ dueAt }) => <Upcoming at={dueAt} /> },
  ];
}
