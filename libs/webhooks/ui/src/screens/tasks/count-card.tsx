import type { ReactNode } from 'react';
import { ConfirmButton } from '../../design/confirm.js';
import { Card } from '../../design/page.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api, newKey } from '../../session/api.js';
import { useListenerName } from '../../session/listener-names.js';
import { absolute } from '../../words/dates.js';
import { count, t } from '../../words/words.js';
import { typedFor } from '../listener/typed-confirmation.js';
import { KINDS, type TaskInput } from './task-kinds.js';

/** The answer of a dry run. */
export interface Counted {
  readonly count: number;
  readonly capped: boolean;
  readonly oldest: string | null;
  readonly newest: string | null;
  /** The request that was counted. */
  readonly key: string;
}

interface CountCardProps {
  readonly body: TaskInput;
  readonly counted: Counted | null;
  /** Whether the form has changed since it was counted. */
  readonly isStale: boolean;
  readonly countButton: ReactNode;
  readonly onCreated: (id: string) => void;
}

/** First the count, then the button that starts the task. */
export function CountCard({ body, counted, isStale, countButton, onCreated }: CountCardProps): ReactNode {
  const isReady = counted !== null && !isStale && counted.count > 0;
  return (
    <div className="count-card">
      <Card title={t('task.count')}>
        <div className="stack" aria-live="polite">
          {counted === null ? (
            <p className="secondary">{t('task.count.hint')}</p>
          ) : isStale ? (
            <p className="secondary">{t('task.counted.stale')}</p>
          ) : (
            <Result body={body} counted={counted} />
          )}
          <div className="row wrap">
            {countButton}
            {isReady && <Start body={body} counted={counted} onCreated={onCreated} />}
          </div>
        </div>
      </Card>
    </div>
  );
}

function whatOf({ kind }: TaskInput, { count: number, capped }: Counted): string {
  const what = count(`task.counted.${KINDS[kind].counts}`, number);
  return capped ? t('task.counted.more', { count: what }) : what;
}

function Result({ body, counted }: { readonly body: TaskInput; readonly counted: Counted }): ReactNode {
  const { oldest, newest } = counted;
  if (counted.count === 0) return <p className="secondary">{t('task.counted.none')}</p>;
  return (
    <div>
      <p className="secondary">{t('task.counted')}</p>
      <p className="tile-value">{whatOf(body, counted)}</p>
      {oldest !== null && newest !== null && (
        <p className="hint">{t('task.counted.between', { oldest: absolute(oldest), newest: absolute(newest) })}</p>
      )}
    </div>
  );
}

interface StartProps {
  readonly body: TaskInput;
  readonly counted: Counted;
  readonly onCreated: (id: string) => void;
}

function Start({ body, counted, onCreated }: StartProps): ReactNode {
  const listener = useListenerName(body.listenerId ?? '');
  const { isDangerous } = KINDS[body.kind];
  const { run } = useAction(t('task.not-created'), async () => {
    const answer = await api.createTask({ body }, { idempotencyKey: newKey() });
    if (!('id' in answer)) return;
    done(t('task.created-now'));
    onCreated(answer.id);
  });
  return (
    <ConfirmButton
      title={`${t(`tasks.kind.${body.kind}`)}?`}
      text={t('task.start.text', { what: whatOf(body, counted) })}
      label={t('task.start')}
      button={{ kind: isDangerous ? 'danger' : 'primary' }}
      {...typedFor(counted.count, listener?.url)}
      isDangerous={isDangerous}
      run={run}
    />
  );
}
