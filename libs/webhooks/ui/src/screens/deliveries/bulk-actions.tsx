import { useState, type ReactNode } from 'react';
import { BulkBar } from '../../design/bulk-bar.js';
import { ConfirmButton } from '../../design/confirm.js';
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

const ACTIONS = ['resend', 'discard'] as const;
const BUTTONS = { resend: { icon: 'resend' }, discard: { icon: 'trash', kind: 'danger-quiet' } } as const;

interface BulkActionsProps {
  readonly selection: Selection<Delivery>;
  readonly reload: () => void;
}

/** Resends or discards the deliveries that are selected. For more of them there are tasks. */
export function BulkActions({ selection, reload }: BulkActionsProps): ReactNode {
  const { rows, clear } = selection;
  const [progress, setProgress] = useState<number | null>(null);
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
    <BulkBar selection={selection} progress={progress}>
      {ACTIONS.map((action) => (
        <ConfirmButton
          key={action}
          label={t(`select.${action}`)}
          button={{ ...BUTTONS[action], isSmall: true, disabled: progress !== null }}
          title={count(`select.${action}.title`, rows.length)}
          text={t(`select.${action}.text`)}
          isDangerous={action === 'discard'}
          {...typedFor(rows.length, listener?.url)}
          // The progress is shown on the page, so the dialog closes at once.
          run={async () => void run(action)}
        />
      ))}
    </BulkBar>
  );
}

function changeOf(action: Action, { id }: Delivery): () => Promise<unknown> {
  if (action === 'discard') return () => api.discardDelivery({ id });
  // The key is the same for each try, so that a lost answer sends nothing twice.
  const options = { idempotencyKey: newKey() };
  return () => api.resendDelivery({ id }, options);
}
