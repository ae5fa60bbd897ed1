import { Toast } from '@base-ui/react/toast';
import type { ReactNode } from 'react';
import { t } from '../words/words.js';
import { Button } from './button.js';
import { Icon } from './icon.js';
import { messageOf } from './states.js';

const manager = Toast.createToastManager();

/** Says that something was done. */
export function done(title: string, description?: string): void {
  manager.add({ title, type: 'success', ...(description !== undefined && { description }) });
}

/** Says that something was not done, and why. */
export function failed(title: string, error: unknown): void {
  manager.add({ title, description: messageOf(error), type: 'error', priority: 'high', timeout: 10_000 });
}

export function Toasts({ children }: { readonly children: ReactNode }): ReactNode {
  return (
    <Toast.Provider toastManager={manager}>
      {children}
      <Toast.Portal>
        <Toast.Viewport className="toasts">
          <List />
        </Toast.Viewport>
      </Toast.Portal>
    </Toast.Provider>
  );
}

function List(): ReactNode {
  const { toasts } = Toast.useToastManager();
  return toasts.map((toast) => (
    <Toast.Root key={toast.id} toast={toast} className="toast">
      <div className="toast-row">
        <Icon name={toast.type === 'error' ? 'alert' : 'check'} />
        <div className="grow">
          <Toast.Title render={<h3 />} />
          <Toast.Description />
        </div>
        <Toast.Close aria-label={t('action.close')} render={<Button kind="ghost" isSmall icon="cross" />} />
      </div>
    </Toast.Root>
  ));
}
