import type { ReactNode } from 'react';
import { Tag } from '../../design/badge.js';
import { Copy } from '../../design/copy.js';
import { Card, Facts } from '../../design/page.js';
import { api } from '../../session/api.js';
import { useLoaded } from '../../session/use-loaded.js';
import { duration } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { LoadedPart } from './loaded.js';

/** How requests are sent: the settings that receivers ask about. */
export function Sender(): ReactNode {
  const sender = useLoaded('sender', (signal) => api.getSender(undefined, { signal }));
  return (
    <LoadedPart loaded={sender} lines={6}>
      {({ addresses, userAgent, headers, schedule, timeoutMs, success, gone }) => (
        <>
          <Card title={t('system.sender')}>
            <div className="stack">
              <p className="secondary">{t('system.sender.text')}</p>
              <Facts
                facts={[
                  [
                    t('system.sender.addresses'),
                    addresses.length === 0 ? (
                      <span key="addresses" className="muted">
                        {t('system.sender.addresses.none')}
                      </span>
                    ) : (
                      <span key="addresses" className="row wrap">
                        <span className="mono break">{addresses.join(', ')}</span>
                        <Copy text={addresses.join('\n')} />
                      </span>
                    ),
                  ],
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
        </>
      )}
    </LoadedPart>
  );
}
