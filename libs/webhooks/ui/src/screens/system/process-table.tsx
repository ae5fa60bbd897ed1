import type { ReactNode } from 'react';
import { Badge } from '../../design/badge.js';
import { Card } from '../../design/page.js';
import { Ago } from '../../design/time.js';
import type { Overview } from '../../session/shapes.js';
import { inShard } from '../../session/shards.js';
import { relative } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { Meter } from './meter.js';

type Process = Overview['processes'][number];

/** A process reports each 15 seconds. One that missed three reports may be dead. */
const MISSED_MS = 45_000;

/** The processes whose dispatcher runs, and how busy each one is. */
export function ProcessTable({ processes }: { readonly processes: readonly Process[] }): ReactNode {
  // The newest report stands for the time of the server: the clock of the browser may differ.
  const newest = Math.max(...processes.map(({ seenAt }) => new Date(seenAt).getTime()));
  return (
    <Card title={t('system.processes')} isFlush>
      <div className="table-scroll" tabIndex={0} role="region" aria-label={t('system.processes')}>
        <table className="table rows">
          <thead>
            <tr>
              <th scope="col">{t('column.host')}</th>
              <th scope="col">{t('column.sending')}</th>
              <th scope="col">{t('column.version')}</th>
              <th scope="col">{t('column.started')}</th>
              <th scope="col">{t('column.seen')}</th>
            </tr>
          </thead>
          <tbody>
            {processes.map(({ id, host, shard, version, startedAt, seenAt, sending, concurrency }) => (
              <tr key={id}>
                <td className="cell-name" title={id}>
                  <span className="strong">{inShard(host, { shard })}</span>
                </td>
                <td>
                  <span className="row">
                    <Meter done={sending} of={concurrency} />
                    <span className="nowrap">{t('system.processes.load', { sending, concurrency })}</span>
                  </span>
                </td>
                <td>{version}</td>
                <td>
                  <Ago at={startedAt} />
                </td>
                <td>
                  {newest - new Date(seenAt).getTime() > MISSED_MS ? (
                    <Badge tone="amber">{t('system.processes.gone', { when: relative(seenAt) })}</Badge>
                  ) : (
                    <Ago at={seenAt} />
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}
