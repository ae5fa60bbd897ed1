import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Confirm } from '../../design/confirm.js';
import { Banner } from '../../design/page.js';
import type { Selection } from '../../design/selection.js';
import { messageOf } from '../../design/states.js';
import { done } from '../../design/toast.js';
import { api } from '../../session/api.js';
import { runAll, type Unchanged } from '../../session/run-all.js';
import type { Listener } from '../../session/shapes.js';
import { count, t } from '../../words/words.js';
import { titleOf } from './listener-name.js';

type Action = 'enable' | 'disable';

/** What the API answers: a listener without the figures of the list. */
export type Switched = Awaited<ReturnType<typeof api.enableListener>>;

interface BulkSwitchProps {
  readonly selection: Selection<Listener>;
  /** Gets the listeners as they are now, and those that could not be changed. */
  readonly onDone: (changed: readonly Switched[], unchanged: readonly Unchanged<Listener>[]) => void;
}

/** Enables or disables the listeners that are selected. */
export function BulkSwitch({ selection, onDone }: BulkSwitchProps): ReactNode {
  const { rows, clear } = selection;
  const [isAsking, setAsking] = useState(false);
  // While the dialog closes, it still shows what it asked.
  const [action, setAction] = useState<Action>('disable');
  const [progress, setProgress] = useState<number | null>(null);
  const isBusy = progress !== null;
  const ask = (next: Action) => {
    setAction(next);
    setAsking(true);
  };
  const run = async () => {
    setProgress(0);
    const call = action === 'enable' ? api.enableListener : api.disableListener;
    const { answers, unchanged } = await runAll(
      rows,
      ({ id }) =>
        () =>
          call({ id }),
      setProgress,
    );
    setProgress(null);
    onDone(answers, unchanged);
    if (answers.length > 0) done(count(action === 'enable' ? 'switch.enabled' : 'switch.disabled', answers.length));
  };
  return (
    <>
      <span className="row" aria-live="polite">
        <span className="strong">{count('select.count', rows.length)}</span>
        {isBusy && <span>{t('select.working', { done: progress, all: rows.length })}</span>}
      </span>
      <span className="row wrap">
        <Button isSmall icon="play" disabled={isBusy} onClick={() => ask('enable')}>
          {t('listener.enable')}
        </Button>
        <Button isSmall icon="pause" disabled={isBusy} onClick={() => ask('disable')}>
          {t('listener.disable')}
        </Button>
        <Button isSmall kind="ghost" icon="cross" disabled={isBusy} onClick={clear}>
          {t('select.clear')}
        </Button>
      </span>
      <Confirm
        isOpen={isAsking}
        onClose={() => setAsking(false)}
        title={count(`switch.${action}.title`, rows.length)}
        text={<p>{t(`switch.${action}.text`)}</p>}
        action={t(`listener.${action}`)}
        run={async () => {
          setAsking(false);
          await run();
        }}
      />
    </>
  );
}

/** Which listeners were not changed, and why. It stays until it is closed, because there may be many. */
export function NotSwitched({
  unchanged,
  onClose,
}: {
  readonly unchanged: readonly Unchanged<Listener>[];
  readonly onClose: () => void;
}): ReactNode {
  return (
    <div role="alert">
      <Banner
        tone="amber"
        title={count('switch.unchanged', unchanged.length)}
        actions={
          <Button isSmall kind="ghost" icon="cross" onClick={onClose}>
            {t('action.close')}
          </Button>
        }
      >
        <ul className="not-switched">
          {unchanged.map(({ item, error }) => (
            <li key={item.id}>
              <span className="strong">{titleOf(item)}</span>: {messageOf(error)}
            </li>
          ))}
        </ul>
      </Banner>
    </div>
  );
}
