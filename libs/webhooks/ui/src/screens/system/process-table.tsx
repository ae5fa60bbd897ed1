import type { ReactNode } from 'react';
import { Badge } from '../../design/badge.js';
import { Card } from '../../design/page.js';
import { Table, type TableColumns } from '../../design/table.js';
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
      <Table label={t('system.processes')} columns={columns(newest)} rows={processes} keyOf={({ id }) => id} />
    </Card>
  );
}

function columns(newest: number): TableColumns<Process> {
  return [
    {
      name: t('column.host'),
      className: 'cell-name',
      cell: ({ id, host, shard }) => (
        <span className="strong" title={id}>
          {inShard(host, { shard })}
        </span>
      ),
    },
    {
      name: t('column.sending'),
      cell: ({ sending, concurrency }) => (
        <span className="row">
          <Meter done={sending} of={concurrency} />
          <span className="nowrap">{t('system.processes.load', { sending, concurrency })}</span>
        </span>
      ),
    },
    { name: t('column.version'), cell: ({ version }) => version },
    { name: t('column.started'), cell: ({ startedAt }) => <Ago at={startedAt} /> },
    {
      name: t('column.seen'),
      cell: ({ seenAt }) =>
        newest - new Date(seenAt).getTime() > MISSED_MS ? (
          <Badge tone="amber">{t('system.processes.gone', { when: relative(seenAt) })}</Badge>
        ) : (
          <Ago at={seenAt} />
        ),
    },
  ];
}
