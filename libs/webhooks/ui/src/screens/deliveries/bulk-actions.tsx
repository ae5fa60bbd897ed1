import { WebhooksApiError } from 'nestjs-entity-webhooks/client';
import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Confirm } from '../../design/confirm.js';
import type { Selection } from '../../design/selection.js';
import { messageOf } from '../../design/states.js';
import { done } from '../../design/toast.js';
import { api, newKey } from '../../session/api.js';
import { useListenerName } from '../../session/listener-names.js';
import type { Delivery } from '../../session/shapes.js';
import { count, t } from '../../words/words.js';
import { typedFor } from '../listener/typed-confirmation.js';

type Action = 'resend' | 'discard';

const AT_ONCE = 4;
/** The API allows so many changes a minute, and then says 429. */
const PAUSE_MS = 5000;
const MAX_PAUSES = 24;

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
    const { changed, reasons } = await runAll(chosen, rows, setProgress);
    setProgress(null);
    clear();
    reload();
    const [reason] = reasons;
    done(
      count(chosen === 'resend' ? 'select.resent' : 'select.discarded', changed),
      reason === undefined ? undefined : count('select.unchanged', reasons.length, { reason }),
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

/** @returns how many were changed, and for each other one why it was not */
async function runAll(
  action: Action,
  rows: readonly Delivery[],
  onProgress: (done: number) => void,
): Promise<{ changed: number; reasons: readonly string[] }> {
  const waiting = [...rows];
  const reasons: string[] = [];
  let changed = 0;
  const work = async () => {
    for (let row = waiting.shift(); row !== undefined; row = waiting.shift()) {
      try {
        await runOne(action, row.id);
        changed += 1;
      } catch (error) {
        reasons.push(messageOf(error));
      }
      onProgress(changed + reasons.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { changed, reasons };
}

async function runOne(action: Action, id: string): Promise<void> {
  // The key is the same for each try, so that a lost answer sends nothing twice.
  const options = { idempotencyKey: newKey() };
  for (let pauses = 0; ; pauses++) {
    try {
      await (action === 'resend' ? api.resendDelivery({ id }, options) : api.discardDelivery({ id }));
      return;
    } catch (error) {
      if (!(error instanceof WebhooksApiError) || error.status !== 429 || pauses === MAX_PAUSES) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
