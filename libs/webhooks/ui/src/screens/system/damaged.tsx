import type { ReactNode } from 'react';
import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import { Button } from '../../design/button.js';
import { visible } from '../../design/code.js';
import { Card } from '../../design/page.js';
import { Empty } from '../../design/states.js';
import { Table, type TableColumns } from '../../design/table.js';
import { Ago } from '../../design/time.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { inShard } from '../../session/shards.js';
import { useCan } from '../../session/session.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { LoadedPart } from './loaded.js';

type Item = OperationTypes['listDamaged']['answer']['items'][number];

const POLL_MS = 15_000;

/** Rows that no event could be made of. */
export function Damaged(): ReactNode {
  const damaged = useLoaded('damaged', (signal) => api.listDamaged(undefined, { signal }), POLL_MS);
  return (
    <LoadedPart loaded={damaged} lines={5}>
      {({ items, capped }) =>
        items.length === 0 ? (
          <Card>
            <Empty icon="check" title={t('system.damaged.none')} text={t('system.damaged.none.text')} />
          </Card>
        ) : (
          <Card isFlush>
            <p className="secondary card-note">{t('system.damaged.text')}</p>
            <DamagedTable items={items} reload={damaged.reload} />
            {capped && <p className="secondary card-note">{t('system.damaged.more')}</p>}
          </Card>
        )
      }
    </LoadedPart>
  );
}

interface DamagedTableProps {
  readonly items: readonly Item[];
  readonly reload: () => void;
}

function DamagedTable({ items, reload }: DamagedTableProps): ReactNode {
  const can = useCan();
  const columns: TableColumns<Item> = [
    {
      name: t('column.name'),
      className: 'cell-name',
      cell: (item) => (
        <>
          <div className="strong">{visible(item.name)}</div>
          <div className="muted mono">{inShard(item.id, item)}</div>
        </>
      ),
    },
    { name: t('column.kind'), cell: ({ kind }) => t(`system.damaged.${kind}`) },
    {
      name: t('column.reason'),
      className: 'break',
      cell: ({ reason }) =>
        reason === null ? <span className="muted">{t('system.damaged.log')}</span> : visible(reason),
    },
    { name: t('column.when'), className: 'nowrap', cell: ({ createdAt }) => <Ago at={createdAt} /> },
    can('system:write') && {
      name: t('column.action'),
      isUnnamed: true,
      className: 'end',
      cell: (item) => <Retry item={item} reload={reload} />,
    },
  ];
  return (
    <Table label={t('system.tab.damaged')} columns={columns} rows={items} keyOf={({ shard, id }) => `${shard} ${id}`} />
  );
}

function Retry({ item: { id, shard }, reload }: { readonly item: Item; readonly reload: () => void }): ReactNode {
  const retry = async () => {
    // Two shards may have an image with the same number.
    await api.retryDamaged({ id, ...(shard === undefined ? {} : { query: { shard } }) });
    done(t('system.damaged.retried'));
  };
  const { isBusy, run } = useAction(t('system.damaged.not-retried'), retry, reload);
  return (
    <Button isSmall icon="refresh" isBusy={isBusy} onClick={() => void run()}>
      {t('system.damaged.retry')}
    </Button>
  );
}
