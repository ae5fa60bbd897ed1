import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import type { ReactNode } from 'react';
import { Tag } from '../../design/badge.js';
import { Copy } from '../../design/copy.js';
import { Card, Facts } from '../../design/page.js';
import { api } from '../../session/api.js';
import { useLoaded } from '../../session/use-loaded.js';
import { duration } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { LoadedPart } from './loaded.js';

type Settings = OperationTypes['getSender']['answer'];

/** How requests are sent: the settings that receivers ask about. */
export function Sender(): ReactNode {
  const sender = useLoaded('sender', (signal) => api.getSender(undefined, { signal }));
  return (
    <LoadedPart loaded={sender} lines={6}>
      {(settings) => (
        <>
          <Requests settings={settings} />
          <Schedule schedule={settings.schedule} />
        </>
      )}
    </LoadedPart>
  );
}

function Requests({ settings }: { readonly settings: Settings }): ReactNode {
  const { addresses, userAgent, headers, timeoutMs, success, gone } = settings;
  return (
    <Card title={t('system.sender')}>
      <div className="stack">
        <p className="secondary">{t('system.sender.text')}</p>
        <Facts
          facts={[
            [t('system.sender.addresses'), <Addresses key="addresses" addresses={addresses} />],
            [
              t('system.sender.agent'),
              <span key="agent" className="mono break">
                {userAgent}
              </span>,
            ],
            [t('system.sender.timeout'), duration(timeoutMs)],
            [t('system.sender.success'), success],
            [t('system.sender.gone'), String(gone)],
          ]}
        />
        <div>
          <h3 className="sub-title">{t('system.sender.headers')}</h3>
          <div className="row wrap">
            {headers.map((name) => (
              <Tag key={name}>{name}</Tag>
            ))}
          </div>
        </div>
      </div>
    </Card>
  );
}

function Addresses({ addresses }: Pick<Settings, 'addresses'>): ReactNode {
  if (addresses.length === 0) return <span className="muted">{t('system.sender.addresses.none')}</span>;
  return (
    <span className="row wrap">
      <span className="mono break">{addresses.join(', ')}</span>
      <Copy text={addresses.join('\n')} />
    </span>
  );
}

function Schedule({ schedule }: Pick<Settings, 'schedule'>): ReactNode {
  return (
    <Card title={t('system.sender.schedule')}>
      <div className="stack">
        <p className="secondary">{t('system.sender.schedule.text')}</p>
        <ol className="schedule">
          {schedule.map((ms, index) => (
            // The same delay may come twice.
            <li key={index}>
              <span className="muted">{t('system.sender.attempt', { number: index + 1 })}</span>
              <span className="strong">{t('system.sender.after', { delay: duration(ms) })}</span>
            </li>
          ))}
        </ol>
      </div>
    </Card>
  );
}
