import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import type { ReactNode } from 'react';
import { visible } from '../../design/code.js';
import { ConfirmButton } from '../../design/confirm.js';
import { Long } from '../../design/long.js';
import { Card } from '../../design/page.js';
import { shortId } from '../../design/short-id.js';
import { Empty } from '../../design/states.js';
import { Table, type TableColumns } from '../../design/table.js';
import { Ago, Clock } from '../../design/time.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import { useLoaded } from '../../session/use-loaded.js';
import { whole } from '../../words/numbers.js';
import { t } from '../../words/words.js';
import { LoadedPart } from './loaded.js';

type Answer = OperationTypes['listAudit']['answer'];
type Entry = Answer['items'][number];
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

interface Sessions {
  readonly open: readonly Session[];
  /** Whether entries were left unread. */
  readonly isCut: boolean;
}

/** No session lasts longer: the greatest `sessions.maxTtlMs`. */
const LONGEST_MS = 7 * 86_400_000;
const PAGE = 200;
const MAX_PAGES = 25;

/** Sessions that are open, and a button that ends one. Tokens are stored nowhere, so the audit log is the list. */
export function OpenSessions(): ReactNode {
  const sessions = useLoaded('sessions', readSessions);
  return (
    <LoadedPart loaded={sessions} lines={5}>
      {({ open, isCut }) =>
        open.length === 0 && !isCut ? (
          <Card>
            <Empty icon="check" title={t('sessions.none')} text={t('sessions.none.text')} />
          </Card>
        ) : (
          <Card isFlush>
            <p className="secondary card-note">{t('sessions.text')}</p>
            <SessionTable sessions={open} reload={sessions.reload} />
            {isCut && <p className="secondary card-note">{t('sessions.more', { count: whole(PAGE * MAX_PAGES) })}</p>}
          </Card>
        )
      }
    </LoadedPart>
  );
}

async function readSessions(signal: AbortSignal): Promise<Sessions> {
  const [created, revoked, revokedOwners] = await Promise.all([
    readEntries('session.created', signal),
    readEntries('session.revoked', signal),
    readEntries('sessions.revoked', signal),
  ]);
  const ended = new Set(revoked.entries.map(({ target }) => target));
  const isRevoked = ({ id, owner, createdAt }: Session) =>
    ended.has(id) || revokedOwners.entries.some(({ target, at }) => target === owner && at >= createdAt);
  const isOpen = (one: Session) => new Date(one.expiresAt).getTime() > Date.now() && !isRevoked(one);
  return { open: created.entries.map(sessionOf).filter(isOpen), isCut: created.isCut };
}

/** The entries of all sessions that may be open, newest first. */
async function readEntries(
  action: Action,
  signal: AbortSignal,
): Promise<{ readonly entries: readonly Entry[]; readonly isCut: boolean }> {
  const since = new Date(Date.now() - LONGEST_MS).toISOString();
  const entries: Entry[] = [];
  let cursor: string | null = null;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const query = { action, since, limit: PAGE, ...(cursor !== null && { cursor }) };
    const { items, next }: Answer = await api.listAudit({ query }, { signal });
    entries.push(...items);
    if (next === null) return { entries, isCut: false };
    cursor = next;
  }
  return { entries, isCut: true };
}

function sessionOf({ at, actor, target, details }: Entry): Session {
  const { owner, can, expiresAt } = (details ?? {}) as Partial<Session>;
  return {
    ...{ id: target ?? '', createdAt: at, actor },
    ...{ owner: owner ?? null, can: can ?? [], expiresAt: expiresAt ?? at },
  };
}

interface SessionTableProps {
  readonly sessions: readonly Session[];
  readonly reload: () => void;
}

function SessionTable({ sessions, reload }: SessionTableProps): ReactNode {
  const can = useCan();
  const columns: TableColumns<Session> = [
    {
      name: t('column.session'),
      className: 'cell-name',
      cell: (one) => (
        <>
          <div className="strong break">{nameOf(one)}</div>
          <div className="muted mono nowrap" title={one.id}>
            {shortId(one.id)}
          </div>
        </>
      ),
    },
    { name: t('column.created'), cell: ({ createdAt }) => <Clock at={createdAt} /> },
    {
      name: t('column.actor'),
      className: 'cell-actor',
      cell: ({ actor }) =>
        actor === null ? <span className="muted">{t('system.audit.application')}</span> : visible(actor),
    },
    { name: t('column.expires'), className: 'nowrap', cell: ({ expiresAt }) => <Ago at={expiresAt} /> },
    {
      name: t('column.can'),
      className: 'secondary cell-details',
      cell: (one) => <Long text={one.can.join(', ')} />,
    },
    can('sessions:create') && {
      name: t('column.action'),
      isUnnamed: true,
      className: 'end',
      cell: (one) => <Revoke session={one} reload={reload} />,
    },
  ];
  return <Table label={t('system.tab.sessions')} columns={columns} rows={sessions} keyOf={({ id }) => id} />;
}

function nameOf({ owner }: Session): string {
  return owner === null ? t('sessions.operator') : visible(owner);
}

function Revoke({ session, reload }: { readonly session: Session; readonly reload: () => void }): ReactNode {
  const revoke = async () => {
    await api.revokeSession({ id: session.id });
    done(t('sessions.revoked'));
  };
  const { run } = useAction(t('sessions.not-revoked'), revoke, reload);
  return (
    <ConfirmButton
      title={t('sessions.revoke.title')}
      text={t('sessions.revoke.text', { who: nameOf(session) })}
      label={t('sessions.revoke')}
      button={{ kind: 'danger-quiet', icon: 'cross', isSmall: true }}
      isDangerous
      run={run}
    />
  );
}
