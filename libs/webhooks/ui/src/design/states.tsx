import { WebhooksApiError } from 'nestjs-entity-webhooks/client';
import type { ReactNode } from 'react';
import { failureOf, type Failure } from '../session/api.js';
import { t, type Key } from '../words/words.js';
import { Button } from './button.js';
import { Icon, type IconName } from './icon.js';

interface EmptyProps {
  readonly icon: IconName;
  readonly title: string;
  readonly text?: string | undefined;
  readonly action?: ReactNode;
  readonly isError?: boolean;
}

/** An empty place says what would be here, and offers the one useful action. */
export function Empty({ icon, title, text, action, isError = false }: EmptyProps): ReactNode {
  return (
    <div className={isError ? 'empty red' : 'empty'}>
      <span className="empty-icon">
        <Icon name={icon} size={24} />
      </span>
      <h2>{title}</h2>
      {text !== undefined && <p>{text}</p>}
      {action !== undefined && <div className="row">{action}</div>}
    </div>
  );
}

const FAILURES: Readonly<Record<Failure, readonly [icon: IconName, title: Key, text: Key | null]>> = {
  offline: ['offline', 'failure.offline', 'failure.offline.text'],
  forbidden: ['lock', 'failure.forbidden', 'failure.forbidden.text'],
  'not-found': ['search', 'failure.not-found', 'failure.not-found.text'],
  'session-over': ['lock', 'failure.session-over', 'failure.session-over.text'],
  'too-many': ['clock', 'failure.too-many', 'failure.too-many.text'],
  other: ['alert', 'failure.other', null],
};

/** Why something could not be shown, with the code and the id that support asks for. */
export function Failed({ error, retry }: { readonly error: unknown; readonly retry?: () => void }): ReactNode {
  const [icon, title, text] = FAILURES[failureOf(error)];
  return (
    <div role="alert">
      <Empty
        isError
        icon={icon}
        title={t(title)}
        text={text === null ? messageOf(error) : t(text)}
        action={
          <>
            {retry && (
              <Button icon="refresh" onClick={retry}>
                {t('action.retry')}
              </Button>
            )}
            <Reference error={error} />
          </>
        }
      />
    </div>
  );
}

/** The code of an error of the API, and the id of the request. */
export function Reference({ error }: { readonly error: unknown }): ReactNode {
  if (!(error instanceof WebhooksApiError)) return null;
  const { code, instance } = error.problem;
  return (
    <span className="muted mono reference">
      {code}
      {instance !== undefined && ` · ${instance}`}
    </span>
  );
}

export function messageOf(error: unknown): string {
  return failureOf(error) === 'offline' ? t('failure.offline.text') : (error as Error).message;
}

/** Grey lines where text will be. They appear after a moment, so that a quick answer does not flash. */
export function Skeleton({ lines = 3 }: { readonly lines?: number }): ReactNode {
  return (
    <div className="stack" aria-busy="true">
      <span className="visually-hidden" role="status">
        {t('app.loading')}
      </span>
      {Array.from({ length: lines }, (_, index) => (
        <span key={index} className="skeleton" style={{ width: `${92 - ((index * 23) % 47)}%` }} />
      ))}
    </div>
  );
}
