import type { ReactNode } from 'react';
import { Tag } from '../../design/badge.js';
import { Json, Nothing, visible } from '../../design/code.js';
import { Id } from '../../design/copy.js';
import { Card, Facts, type FactList } from '../../design/page.js';
import { At } from '../../design/time.js';
import { useCan, useMe } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { inShard } from '../../session/shards.js';
import { duration } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { handshakes } from '../editor/handshakes.js';
import { RotateSigningKey } from './rotate-signing-key.js';

interface ListenerSettingsProps {
  readonly listener: Listener;
  readonly reload: () => void;
}

export function ListenerSettings({ listener, reload }: ListenerSettingsProps): ReactNode {
  const { kind } = useMe();
  const can = useCan();
  const { where, headers, publicKeys } = listener;
  return (
    <>
      <Card title={t('listener.settings')}>
        <Facts isFirstWide facts={[...factsOf(listener), ...(kind === 'operator' ? ownerFactsOf(listener) : [])]} />
      </Card>
      <div className="split even">
        <Card title={t('listener.events')}>
          <div className="row wrap">
            {listener.events.map((type) => (
              <Tag key={type}>{type}</Tag>
            ))}
          </div>
        </Card>
        <Card title={t('listener.filter')}>
          {Object.keys(where).length === 0 ? (
            <p className="muted">{t('listener.no-filter')}</p>
          ) : (
            <Json value={where} label={t('listener.filter')} />
          )}
        </Card>
      </div>
      {Object.keys(headers).length > 0 && (
        <Card title={t('listener.headers')}>
          <Json value={headers} label={t('listener.headers')} />
        </Card>
      )}
      {publicKeys.length > 0 && (
        <Card
          title={t('listener.public-keys')}
          actions={can('secrets:rotate') && <RotateSigningKey listener={listener} reload={reload} />}
        >
          <div className="stack tight">
            {publicKeys.map((key) => (
              <Id key={key} id={key} />
            ))}
          </div>
        </Card>
      )}
    </>
  );
}

function factsOf(listener: Listener): FactList {
  const { id, url, schemes, format, versions, ordering, rateLimit, handshake, auth, tls } = listener;
  const { createdAt, updatedAt, oldSecretUntil, oldSigningKeyUntil } = listener;
  return [
    [
      t('listener.url'),
      <span key="url" className="mono">
        {visible(url)}
      </span>,
    ],
    [t('listener.id'), <Id key="id" id={id} />],
    [t('listener.schemes'), schemes.join(', ')],
    [t('listener.old-secret'), oldSecretUntil === null ? null : <At key="secret" at={oldSecretUntil} />],
    [t('listener.old-key'), oldSigningKeyUntil === null ? null : <At key="key" at={oldSigningKeyUntil} />],
    [t('listener.format'), format],
    [t('listener.versions'), versionsText(versions)],
    [t('listener.order'), t(ordering === 'entity' ? 'listener.order.entity' : 'listener.order.none')],
    [t('listener.rate'), rateLimit === null ? t('listener.rate.none') : rateText(rateLimit)],
    [t('editor.handshake'), handshakes().find(([one]) => one === handshake)?.[1] ?? handshake],
    [t('editor.tls'), tls === null ? t('editor.tls.none') : t('editor.tls.set')],
    [t('listener.auth'), auth === null ? <Nothing key="auth" /> : auth.type],
    [t('column.created'), <At key="created" at={createdAt} />],
    [t('listener.updated'), <At key="updated" at={updatedAt} />],
  ];
}

/** `null`, so that nothing is shown, if no type of the listener has several versions. */
function versionsText(versions: Listener['versions']): string | null {
  if (versions === 'latest') return t('listener.versions.latest');
  const pins = Object.entries(versions);
  return pins.length === 0 ? null : pins.map(([type, version]) => `${type} ${version}`).join(', ');
}

function rateText({ limit, perSeconds }: NonNullable<Listener['rateLimit']>): string {
  return t('listener.rate.text', { requests: limit, period: duration(perSeconds * 1000) });
}

/** What customers neither see nor set. */
function ownerFactsOf({ owner, shard, externalId, metadata }: Listener): FactList {
  return [
    [t('column.owner'), inShard(owner ?? t('listener.no-owner'), { shard })],
    [t('listener.external-id'), externalId],
    [t('listener.metadata'), metadata === null ? null : <code key="metadata">{JSON.stringify(metadata)}</code>],
  ];
}
