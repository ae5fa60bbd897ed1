import type { ReactNode } from 'react';
import { visible } from '../../design/code.js';
import { Card } from '../../design/page.js';
import { Icon } from '../../design/icon.js';
import { Ago, Upcoming } from '../../design/time.js';
import type { Attempt, DeliveryDetails } from '../../session/shapes.js';
import { duration } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { errorName } from '../deliveries/delivery-state.js';

interface AttemptListProps {
  readonly delivery: DeliveryDetails;
  readonly shown: Attempt | undefined;
  readonly onChoose: (number: number) => void;
}

/** The attempts as a line through time, the newest on top. */
export function AttemptList({ delivery, shown, onChoose }: AttemptListProps): ReactNode {
  const { attempts, nextAttemptAt, createdAt } = delivery;
  return (
    <Card title={t('delivery.attempts')}>
      <ol className="timeline">
        {nextAttemptAt !== null && (
          <li className="timeline-item waiting">
            <span className="timeline-dot">
              <Icon name="clock" size={13} />
            </span>
            <span className="timeline-text">
              <span className="strong">{t('delivery.next-attempt')}</span>
              <span className="muted">
                <Upcoming at={nextAttemptAt} />
              </span>
            </span>
          </li>
        )}
        {attempts.toReversed().map((attempt) => (
          <li key={attempt.number} className="timeline-item">
            <button type="button" aria-pressed={attempt === shown} onClick={() => onChoose(attempt.number)}>
              <Item attempt={attempt} />
            </button>
          </li>
        ))}
        <li className="timeline-item">
          <span className="timeline-dot gray" />
          <span className="timeline-text">
            <span className="secondary">{t('delivery.created')}</span>
            <span className="muted">
              <Ago at={createdAt} />
            </span>
          </span>
        </li>
      </ol>
    </Card>
  );
}

function Item({ attempt }: { readonly attempt: Attempt }): ReactNode {
  const isAccepted = attempt.outcome === 'accepted';
  return (
    <>
      <span className={isAccepted ? 'timeline-dot green' : 'timeline-dot red'}>
        <Icon name={isAccepted ? 'check' : 'cross'} size={13} />
      </span>
      <span className="timeline-text">
        <span className="strong">{attemptResult(attempt)}</span>
        <span className="muted">
          {t('delivery.attempt', { number: attempt.number })} · <Ago at={attempt.startedAt} />
          {attempt.durationMs !== null && ` · ${duration(attempt.durationMs)}`}
        </span>
        {attempt.trigger !== 'schedule' && (
          <span className="muted">{triggerText(attempt.trigger, attempt.triggeredBy)}</span>
        )}
      </span>
    </>
  );
}

function triggerText(trigger: Exclude<Attempt['trigger'], 'schedule'>, by: string | null): ReactNode {
  const name = t(`trigger.${trigger}`);
  return by === null ? name : t('trigger.by', { trigger: name, name: visible(by) });
}

/** `HTTP 503`, or the error in words. */
export function attemptResult({ status, errorCode }: Attempt): string {
  if (status !== null) return `HTTP ${status}`;
  return errorCode === null ? t('state.succeeded') : errorName(errorCode);
}
