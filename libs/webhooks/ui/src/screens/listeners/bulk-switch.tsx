import { useState, type ReactNode } from 'react';
import { BulkBar } from '../../design/bulk-bar.js';
import { Button } from '../../design/button.js';
import { ConfirmButton } from '../../design/confirm.js';
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

const ACTIONS = ['enable', 'disable'] as const;
const ICONS = { enable: 'play', disable: 'pause' } as const;

/** What the API answers: a listener without the figures of the list. */
export type Switched = Awaited<ReturnType<typeof api.enableListener>>;

interface BulkSwitchProps {
  readonly selection: Selection<Listener>;
  /** Gets the listeners as they are now, and those that could not be changed. */
  readonly onDone: (changed: readonly Switched[], unchanged: readonly Unchanged<Listener>[]) => void;
}

/** Enables or disables the listeners that are selected. */
export function BulkSwitch({ selection, onDone }: BulkSwitchProps): ReactNode {
  const { rows } = selection;
  const [progress, setProgress] = useState<number | null>(null);
  const run = async (action: Action) => {
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
    <BulkBar selection={selection} progress={progress}>
      {ACTIONS.map((action) => (
        <ConfirmButton
          key={action}
          label={t(`listener.${action}`)}
          button={{ icon: ICONS[action], isSmall: true, disabled: progress !== null }}
          title={count(`switch.${action}.title`, rows.length)}
          text={t(`switch.${action}.text`)}
          // The progress is shown on the page, so the dialog closes at once.
          run={async () => void run(action)}
        />
      ))}
    </BulkBar>
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
