import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { visible } from '../../design/code.js';
import { Confirm } from '../../design/confirm.js';
import { Card } from '../../design/page.js';
import { Empty } from '../../design/states.js';
import { Ago, Clock } from '../../design/time.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { LoadedPart } from './loaded.js';

type Entry = OperationTypes['listAudit']['answer']['items'][number];
type Action = NonNullable<NonNullable<OperationTypes['listAudit']['input']['query']>['action']>;

/** What the audit log says of a session that was created. */
interface Session {
  readonly id: string;
  readonly createdAt: string;
  /** Who created it; `null`: the application. */
  readonly actor: string | null;
  /** `null`: a session of an operator. */
  readonly owner: string | null;
  readonly can: readonly string[];
  readonly expiresAt: string;
}

const NEWEST = 200;

/** Sessions that are open, and a button that ends one. Tokens are stored nowhere, so the audit log is the list. */
export function Sessions(): ReactNode {
  const sessions = useLoaded('sessions', openSessions);
  return (
    <LoadedPart loaded={sessions} lines={5}>
      {(open) =>
        open.length === 0 ? (
          <Card>
            <Empty icon="check" title={t('sessions.none')} text={t('sessions.none.text')} />
          </Card>
        ) : (
          <Card isFlush>
            <p className="secondary card-note">{t('sessions.text')}</p>
            <Table sessions={open} reload={sessions.reload} />
          </Card>
        )
      }
    </LoadedPart>
  );
}

async function openSessions(signal: AbortSignal): Promise<readonly Session[]> {
  const entriesOf = async (action: Action) =>
    (await api.listAudit({ query: { action, limit: NEWEST } }, { signal })).items;
  const [created, revoked, revokedOwners] = await Promise.all([
    entriesOf('session.created'),
    entriesOf('session.revoked'),
    entriesOf('sessions.revoked'),
  ]);
  const ended = new Set(revoked.map(({ target }) => target));
  const isRevoked = ({ id, owner, createdAt }: Session) =>
    ended.has(id) || revokedOwners.some(({ target, at }) => target === owner && at >= createdAt);
  return created.map(sessionOf).filter((one) => new Date(one.expiresAt).getTime() > Date.now() && !isRevoked(one));
}

function sessionOf({ at, actor, target, details }: Entry): Session {
  const { owner, can, expiresAt } = (details ?? {}) as Partial<Session>;
  return {
    ...{ id: target ?? '', createdAt: at, actor },
    ...{ owner: owner ?? null, can: can ?? [], expiresAt: expiresAt ?? at },
  };
}

interface TableProps {
  readonly sessions: readonly Session[];
  readonly reload: () => void;
}

function Table({ sessions, reload }: TableProps): ReactNode {
  const can = useCan();
  const isAllowed = can('sessions:create');
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label={t('system.tab.sessions')}>
      <table className="table rows">
        <thead>
          <tr>
            <th scope="col">{t('column.session')}</th>
            <th scope="col">{t('column.created')}</th>
            <th scope="col">{t('column.actor')}</th>
            <th scope="col">{t('column.expires')}</th>
            <th scope="col">{t('column.can')}</th>
            {isAllowed && (
              <th scope="col">
                <span className="visually-hidden">{t('column.action')}</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {sessions.map((one) => (
            <tr key={one.id}>
              <td className="cell-name">
                <div className="strong break">{nameOf(one)}</div>
                <div className="muted mono">{one.id}</div>
              </td>
              <td>
                <Clock at={one.createdAt} />
              </td>
              <td className="cell-actor">
                {one.actor === null ? (
                  <span className="muted">{t('system.audit.application')}</span>
                ) : (
                  visible(one.actor)
                )}
              </td>
              <td>
                <Ago at={one.expiresAt} />
              </td>
              <td className="secondary cell-details">{one.can.join(', ')}</td>
              {isAllowed && (
                <td className="end">
                  <Revoke session={one} reload={reload} />
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function nameOf({ owner }: Session): string {
  return owner === null ? t('sessions.operator') : visible(owner);
}

function Revoke({ session, reload }: { readonly session: Session; readonly reload: () => void }): ReactNode {
  const [isAsking, setAsking] = useState(false);
  const revoke = async () => {
    await api.revokeSession({ id: session.id });
    done(t('sessions.revoked'));
  };
  const { run } = useAction(t('sessions.not-revoked'), revoke, reload);
  return (
    <>
      <Button isSmall kind="danger-quiet" icon="cross" onClick={() => setAsking(true)}>
        {t('sessions.revoke')}
      </Button>
      <Confirm
        isOpen={isAsking}
        onClose={() => setAsking(false)}
        title={t('sessions.revoke.title')}
        text={<p>{t('sessions.revoke.text', { who: nameOf(session) })}</p>}
        action={t('sessions.revoke')}
        isDangerous
        run={run}
      />
    </>
  );
}
