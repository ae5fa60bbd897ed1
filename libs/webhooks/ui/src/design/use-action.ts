import { useState } from 'react';
import { failed } from './toast.js';

/** What a button does, and whether it is doing it. */
export interface Action<Given extends readonly unknown[]> {
  readonly isBusy: boolean;
  readonly run: (...given: Given) => Promise<void>;
}

/**
 * An action of a button. If the action fails, a toast says so and gives the reason.
 *
 * @param failure the title of that toast
 * @param onEnd called at the end, also after a failure: for lists that must show what the server has now
 */
export function useAction<Given extends readonly unknown[]>(
  failure: string,
  act: (...given: Given) => Promise<void>,
  onEnd?: () => void,
): Action<Given> {
  const [isBusy, setBusy] = useState(false);
  const run = async (...given: Given) => {
    setBusy(true);
    try {
      await act(...given);
    } catch (error) {
      failed(failure, error);
    } finally {
      setBusy(false);
      onEnd?.();
    }
  };
  return { isBusy, run };
}
