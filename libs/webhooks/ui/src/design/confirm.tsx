import { AlertDialog } from '@base-ui/react/alert-dialog';
import { useEffect, useState, type ReactNode } from 'react';
import { t } from '../words/words.js';
import { Button } from './button.js';

interface ConfirmProps {
  readonly isOpen: boolean;
  readonly onClose: () => void;
  /** Names the object. */
  readonly title: string;
  readonly text: ReactNode;
  /** The word of the button that does it. */
  readonly action: string;
  readonly isDangerous?: boolean;
  /** A text that must be typed first. */
  readonly typed?: string;
  /** Whether the fields have what the action needs. */
  readonly isReady?: boolean;
  /** Fields between the text and the buttons. */
  readonly children?: ReactNode;
  readonly run: () => Promise<unknown>;
}

/** Asks before something that cannot be taken back. */
export function Confirm({
  isOpen,
  onClose,
  title,
  text,
  action,
  isDangerous = false,
  typed,
  isReady = true,
  children,
  run,
}: ConfirmProps): ReactNode {
  const [isBusy, setBusy] = useState(false);
  const [given, setGiven] = useState('');
  // Each time it is typed again, also after the dialog was cancelled.
  useEffect(() => {
    if (isOpen) setGiven('');
  }, [isOpen]);
  const confirm = async () => {
    setBusy(true);
    try {
      await run();
    } finally {
      setBusy(false);
      onClose();
    }
  };
  return (
    <AlertDialog.Root open={isOpen} onOpenChange={(isNowOpen) => !isNowOpen && onClose()}>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className="popup-backdrop" />
        <AlertDialog.Popup className="popup">
          <AlertDialog.Title>{title}</AlertDialog.Title>
          <AlertDialog.Description render={<div className="secondary stack tight" />}>{text}</AlertDialog.Description>
          {children}
          {typed !== undefined && (
            <div className="field popup-field">
              <label htmlFor="typed">{t('confirm.type', { text: typed })}</label>
              <input
                id="typed"
                className="input mono"
                autoComplete="off"
                value={given}
                onChange={(event) => setGiven(event.target.value)}
              />
            </div>
          )}
          <div className="popup-actions">
            <AlertDialog.Close render={<Button>{t('action.cancel')}</Button>} />
            <Button
              kind={isDangerous ? 'danger' : 'primary'}
              isBusy={isBusy}
              disabled={!isReady || (typed !== undefined && given.trim() !== typed)}
              onClick={() => void confirm()}
            >
              {action}
            </Button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
