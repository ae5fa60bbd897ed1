import { Dialog } from '@base-ui/react/dialog';
import type { ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { visible } from '../../design/code.js';
import type { Listener } from '../../session/shapes.js';
import { t, type Key } from '../../words/words.js';
import { isSame } from './draft.js';

interface ConflictProps {
  /** The listener as somebody else has saved it; `null`: there is no conflict. */
  readonly theirs: Listener | null;
  readonly before: Listener;
  /** What is not saved yet. */
  readonly mine: Readonly<Record<string, unknown>>;
  readonly onTheirs: () => void;
  readonly onMine: () => void;
  readonly onClose: () => void;
}

const NAMES: readonly (readonly [property: string, name: Key])[] = [
  ['url', 'listener.url'],
  ['name', 'editor.name'],
  ['description', 'editor.description'],
  ['events', 'listener.events'],
  ['where', 'listener.filter'],
  ['headers', 'listener.headers'],
  ['schemes', 'listener.schemes'],
  ['format', 'listener.format'],
  ['versions', 'listener.versions'],
  ['ordering', 'listener.order'],
  ['sequence', 'editor.sequence'],
  ['rateLimit', 'listener.rate'],
  ['handshake', 'editor.handshake'],
  ['auth', 'listener.auth'],
  ['tls', 'editor.tls'],
  ['state', 'column.state'],
];

/** Somebody else saved the listener meanwhile: shows both, and lets the reader choose. */
export function Conflict({ theirs, before, mine, onTheirs, onMine, onClose }: ConflictProps): ReactNode {
  return (
    <Dialog.Root open={theirs !== null} onOpenChange={(isOpen) => !isOpen && onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="popup-backdrop" />
        <Dialog.Popup className="popup wide">
          <Dialog.Title>{t('conflict.title')}</Dialog.Title>
          <Dialog.Description className="secondary">{t('conflict.text')}</Dialog.Description>
          {theirs && <Both theirs={theirs} before={before} mine={mine} />}
          <div className="popup-actions">
            <Dialog.Close render={<Button kind="ghost">{t('conflict.back')}</Button>} />
            <Button onClick={onTheirs}>{t('conflict.theirs')}</Button>
            <Button kind="primary" onClick={onMine}>
              {t('conflict.mine')}
            </Button>
          </div>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function Both({
  theirs,
  before,
  mine,
}: Pick<ConflictProps, 'before' | 'mine'> & { readonly theirs: Listener }): ReactNode {
  const now: Readonly<Record<string, unknown>> = { ...theirs };
  const was: Readonly<Record<string, unknown>> = { ...before };
  const rows = NAMES.filter(([property]) => property in mine || !isSame(now[property], was[property]));
  return (
    <div className="table-scroll conflict" tabIndex={0} role="region" aria-label={t('conflict.title')}>
      <table className="table">
        <thead>
          <tr>
            <th scope="col">{t('conflict.setting')}</th>
            <th scope="col">{t('conflict.saved')}</th>
            <th scope="col">{t('conflict.yours')}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([property, name]) => (
            <tr key={property}>
              <th scope="row">{t(name)}</th>
              <td className="mono break">{shown(property, now[property])}</td>
              <td className="mono break">{shown(property, property in mine ? mine[property] : was[property])}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Credentials that were just typed stay unseen. */
function shown(property: string, value: unknown): string {
  if (value === null || value === undefined) return '–';
  if (property === 'auth' || property === 'tls') return '***';
  return visible(typeof value === 'string' ? value : JSON.stringify(value));
}
