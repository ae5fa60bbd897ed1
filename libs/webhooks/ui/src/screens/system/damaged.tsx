import type { ReactNode } from 'react';
import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import { Button } from '../../design/button.js';
import { visible } from '../../design/code.js';
import { Card } from '../../design/page.js';
import { Empty } from '../../design/states.js';
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
            <Table items={items} reload={damaged.reload} />
            {capped && <p className="secondary card-note">{t('system.damaged.more')}</p>}
          </Card>
        )
      }
    </LoadedPart>
  );
}

function Table({ items, reload }: { readonly items: readonly Item[]; readonly reload: () => void }): ReactNode {
  const can = useCan();
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label={t('system.tab.damaged')}>
      <table className="table rows">
        <thead>
          <tr>
            <th scope="col">{t('column.name')}</th>
            <th scope="col">{t('column.kind')}</th>
            <th scope="col">{t('column.reason')}</th>
            <th scope="col">{t('column.when')}</th>
            {can('system:write') && (
              <th scope="col">
                <span className="visually-hidden">{t('column.action')}</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <tr key={`${item.shard} ${item.id}`}>
              <td className="cell-name">
                <div className="strong">{visible(item.name)}</div>
                <div className="muted mono">{inShard(item.id, item)}</div>
              </td>
              <td>{t(`system.damaged.${item.kind}`)}</td>
              <td className="break">
                {item.reason === null ? <span className="muted">{t('system.damaged.log')}</span> : visible(item.reason)}
              </td>
              <td>
                <Ago at={item.createdAt} />
              </td>
              {can('system:write') && (
                <td className="end">
                  <Retry item={item} reload={reload} />
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
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
