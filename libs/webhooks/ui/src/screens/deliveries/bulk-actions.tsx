import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Confirm } from '../../design/confirm.js';
import type { Selection } from '../../design/selection.js';
import { messageOf } from '../../design/states.js';
import { done } from '../../design/toast.js';
import { api, newKey } from '../../session/api.js';
import { useListenerName } from '../../session/listener-names.js';
import { runAll } from '../../session/run-all.js';
import type { Delivery } from '../../session/shapes.js';
import { count, t } from '../../words/words.js';
import { typedFor } from '../listener/typed-confirmation.js';

type Action = 'resend' | 'discard';

interface BulkActionsProps {
  readonly selection: Selection<Delivery>;
  readonly reload: () => void;
}

/** Resends or discards the deliveries that are selected. For more of them there are tasks. */
export function BulkActions({ selection, reload }: BulkActionsProps): ReactNode {
  const { rows, clear } = selection;
  const [action, setAction] = useState<Action | null>(null);
  const [progress, setProgress] = useState<number | null>(null);
  // While the dialog closes, it still shows what it asked.
  const [shown, setShown] = useState<Action>('resend');
  const ask = (next: Action) => {
    setShown(next);
    setAction(next);
  };
  const isOneListener = rows.every(({ listenerId }) => listenerId === rows[0]?.listenerId);
  const listener = useListenerName(isOneListener ? (rows[0]?.listenerId ?? '') : '');
  const run = async (chosen: Action) => {
    setProgress(0);
    const { answers, unchanged } = await runAll(rows, (row) => changeOf(chosen, row), setProgress);
    setProgress(null);
    clear();
    reload();
    const [first] = unchanged;
    done(
      count(chosen === 'resend' ? 'select.resent' : 'select.discarded', answers.length),
      first && count('select.unchanged', unchanged.length, { reason: messageOf(first.error) }),
    );
  };
  return (
    <>
      <span className="row" aria-live="polite">
        <span className="strong">{count('select.count', rows.length)}</span>
        {progress !== null && <span>{t('select.working', { done: progress, all: rows.length })}</span>}
      </span>
      <span className="row wrap">
        <Button isSmall icon="resend" disabled={progress !== null} onClick={() => ask('resend')}>
          {t('select.resend')}
        </Button>
        <Button isSmall icon="trash" kind="danger-quiet" disabled={progress !== null} onClick={() => ask('discard')}>
          {t('select.discard')}
        </Button>
        <Button isSmall kind="ghost" icon="cross" disabled={progress !== null} onClick={clear}>
          {t('select.clear')}
        </Button>
      </span>
      <Confirm
        isOpen={action !== null}
        onClose={() => setAction(null)}
        title={count(`select.${shown}.title`, rows.length)}
        text={<p>{t(`select.${shown}.text`)}</p>}
        action={t(`select.${shown}`)}
        isDangerous={shown === 'discard'}
        {...typedFor(rows.length, listener?.url)}
        run={async () => {
          setAction(null);
          await run(shown);
        }}
      />
    </>
  );
}

function changeOf(action: Action, { id }: Delivery): () => Promise<unknown> {
  if (action === 'discard') return () => api.discardDelivery({ id });
  // The key is the same for each try, so that a lost answer sends nothing twice.
  const options = { idempotencyKey: newKey() };
  return () => api.resendDelivery({ id }, options);
}
