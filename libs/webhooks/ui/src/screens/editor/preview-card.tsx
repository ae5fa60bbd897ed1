import { useEffect, useState, type ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Icon } from '../../design/icon.js';
import { Card } from '../../design/page.js';
import { messageOf, Skeleton } from '../../design/states.js';
import { Ago } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import { count, t } from '../../words/words.js';
import type { Where } from './filter.js';
import { useSettled } from './use-settled.js';

const PATIENCE_MS = 700;

type Preview = Awaited<ReturnType<typeof api.previewListener>>;

interface PreviewCardProps {
  readonly events: readonly string[];
  readonly where: Where;
  /** For operators, who may create listeners of an owner. */
  readonly owner: string;
  readonly onError: (error: unknown) => void;
}

/** How many of the newest events would have been sent, before anything is saved. */
export function PreviewCard({ events, where, owner, onError }: PreviewCardProps): ReactNode {
  const key = useSettled(JSON.stringify([events, where, owner]), PATIENCE_MS);
  const [{ preview, error }, setState] = useState<{ preview?: Preview; error?: unknown }>({});
  const [isLoading, setLoading] = useState(true);
  useEffect(() => {
    const [events, where, owner] = JSON.parse(key) as [string[], Where, string];
    if (events.length === 0) {
      setState({});
      onError(undefined);
      return undefined;
    }
    const abort = new AbortController();
    setLoading(true);
    api
      .previewListener({ body: { events, where: where as never, ...(owner && { owner }) } }, { signal: abort.signal })
      .then(
        (preview) => {
          setState({ preview });
          onError(undefined);
          setLoading(false);
        },
        (error: unknown) => {
          if (abort.signal.aborted) return;
          setState({ error });
          onError(error);
          setLoading(false);
        },
      );
    return () => abort.abort();
  }, [key, onError]);
  return (
    <Card title={t('preview.title')}>
      <div aria-live="polite">
        {events.length === 0 ? (
          <p className="muted">{t('preview.no-types')}</p>
        ) : error !== undefined ? (
          <p className="secondary break">{messageOf(error)}</p>
        ) : preview === undefined ? (
          isLoading && <Skeleton lines={4} />
        ) : (
          <Result preview={preview} />
        )}
      </div>
    </Card>
  );
}

function Result({ preview: { examined, matched, samples } }: { readonly preview: Preview }): ReactNode {
  if (examined === 0) return <p className="muted">{t('preview.none')}</p>;
  return (
    <div className="stack">
      <div className="stack tight">
        <p className="strong">{count('preview.matches', examined, { matched })}</p>
        <meter className="meter" aria-label={t('preview.title')} min={0} max={examined} value={matched} />
      </div>
      <ul className="samples">
        {samples.map((sample) => (
          <Sample key={sample.eventId} sample={sample} />
        ))}
      </ul>
    </div>
  );
}

function Sample({ sample }: { readonly sample: Preview['samples'][number] }): ReactNode {
  const { eventId, type, timestamp, matched, failedOn } = sample;
  const can = useCan();
  return (
    <li className={matched ? 'sample is-match' : 'sample'}>
      <Icon name={matched ? 'check' : 'cross'} size={14} />
      <div className="grow">
        <div className="row between">
          {can('payloads:read') ? (
            <a className="truncate" href={href(`/events/${eventId}`)} target="_blank" rel="noreferrer">
              {type}
            </a>
          ) : (
            <span className="truncate">{type}</span>
          )}
          <span className="muted sample-time">
            <Ago at={timestamp} />
          </span>
        </div>
        {matched ? (
          <span className="visually-hidden">{t('preview.match')}</span>
        ) : (
          <div className="muted break">{failedText(failedOn)}</div>
        )}
      </div>
    </li>
  );
}

function failedText(failedOn: readonly string[]): string {
  const [first = ''] = failedOn;
  if (first === 'type') return t('preview.other-type');
  return first === 'payload' ? t('preview.unreadable') : t('preview.failed-on', { conditions: failedOn.join(', ') });
}
