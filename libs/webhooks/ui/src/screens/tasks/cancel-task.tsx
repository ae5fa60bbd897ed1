import type { ReactNode } from 'react';
import { ConfirmButton } from '../../design/confirm.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { Task } from '../../session/shapes.js';
import { t } from '../../words/words.js';
import { KINDS } from './task-kinds.js';
import { isActive } from './task-state.js';

interface CancelTaskProps {
  readonly task: Task;
  readonly reload: () => void;
}

/** Absent for tasks that have ended, and for people who may not. */
export function CancelTask({ task, reload }: CancelTaskProps): ReactNode {
  const can = useCan();
  const cancel = async () => {
    await api.cancelTask({ id: task.id });
    done(t('tasks.cancelled'));
  };
  const { run } = useAction(t('tasks.not-cancelled'), cancel, reload);
  if (!isActive(task) || !can(KINDS[task.kind].capability)) return null;
  return (
    <ConfirmButton
      title={t('tasks.cancel.title')}
      text={t('tasks.cancel.text')}
      label={t('tasks.cancel')}
      button={{ icon: 'cross' }}
      isDangerous
      run={run}
    />
  );
}
