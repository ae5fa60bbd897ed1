import type { ReactNode } from 'react';
import { Code, Json, visible } from '../../design/code.js';
import { Copy } from '../../design/copy.js';
import { Card, Facts } from '../../design/page.js';
import { Empty, Failed, Skeleton } from '../../design/states.js';
import { At } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { Attempt, DeliveryDetails } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { useListenerName } from '../../session/listener-names.js';
import { duration } from '../../words/dates.js';
import { count, t } from '../../words/words.js';
import { AttemptPhases } from './attempt-phases.js';
import { attemptResult } from './attempt-list.js';
import { fixtureOf } from './fixture.js';

interface AttemptDetailsProps {
  readonly delivery: DeliveryDetails;
  readonly attempt: Attempt | undefined;
}

/** What was sent, and what came back. */
export function AttemptDetails({ delivery, attempt }: AttemptDetailsProps): ReactNode {
  const can = useCan();
  return (
    <div className="stack">
      {attempt ? (
        <Response attempt={attempt} />
      ) : (
        <Card>
          <Empty icon="clock" title={t('delivery.no-attempt')} text={t('delivery.no-attempt.text')} />
        </Card>
      )}
      <Card
        title={t('delivery.request')}
        actions={
          attempt?.requestHeaders &&
          can('payloads:read') && (
            <Copy
              kind="secondary"
              icon="code"
              label={t('delivery.copy-fixture')}
              text={async () => fixtureOf(attempt, await api.getDeliveryBody({ id: delivery.id }))}
            />
          )
        }
      >
        <div className="stack">
          <RequestLine delivery={delivery} attempt={attempt} />
          {attempt?.requestHeaders && <HeaderTable headers={attempt.requestHeaders} />}
          {can('payloads:read') && <SentBody id={delivery.id} />}
        </div>
      </Card>
    </div>
  );
}

function Response({ attempt }: { readonly attempt: Attempt }): ReactNode {
  const { number, startedAt, durationMs, response, responseHeaders, errorDetail, superseded, omittedHeaders } = attempt;
  return (
    <Card title={t('delivery.response', { number })}>
      <div className="stack">
        <Facts
          facts={[
            [
              t('filter.result'),
              <span className="strong" key="result">
                {attemptResult(attempt)}
              </span>,
            ],
            [t('delivery.started'), <At key="at" at={startedAt} />],
            [t('delivery.duration'), durationMs === null ? null : duration(durationMs)],
            [t('delivery.detail'), errorDetail === null ? null : visible(errorDetail)],
          ]}
        />
        <AttemptPhases attempt={attempt} />
        {superseded && <p className="secondary">{t('delivery.superseded')}</p>}
        {responseHeaders && <HeaderTable headers={responseHeaders} />}
        {omittedHeaders > 0 && <p className="muted">{count('delivery.omitted', omittedHeaders)}</p>}
        {response === null || response === '' ? (
          <p className="muted">{t('delivery.no-response')}</p>
        ) : (
          <Text text={response} label={t('delivery.response-body')} />
        )}
      </div>
    </Card>
  );
}

function RequestLine({ delivery, attempt }: AttemptDetailsProps): ReactNode {
  const listener = useListenerName(delivery.listenerId);
  const url = attempt?.url ?? listener?.url;
  if (url == null) return null;
  return (
    <p className="request-line mono">
      <span className="badge plain">POST</span> <span className="break">{visible(url)}</span>
    </p>
  );
}

function SentBody({ id }: { readonly id: string }): ReactNode {
  const { data, error, reload } = useLoaded(`body ${id}`, (signal) => api.getDeliveryBody({ id }, { signal }));
  if (data !== undefined) return <Text text={data} label={t('delivery.body')} />;
  return error === undefined ? <Skeleton lines={5} /> : <Failed error={error} retry={reload} />;
}

/** JSON is shown with indents, everything else as it is. */
function Text({ text, label }: { readonly text: string; readonly label: string }): ReactNode {
  const value = parsed(text);
  return value === undefined ? <Code text={text} label={label} /> : <Json value={value} label={label} />;
}

function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function HeaderTable({ headers }: { readonly headers: Readonly<Record<string, string>> }): ReactNode {
  return (
    <div className="code wrap">
      <pre tabIndex={0} role="region" aria-label={t('delivery.headers')}>
        {Object.entries(headers).map(([name, value]) => (
          <span key={name}>
            <span className="json-key">{visible(name)}</span>: {visible(value)}
            {'\n'}
          </span>
        ))}
      </pre>
    </div>
  );
}
