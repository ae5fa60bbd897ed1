import { AlertDialog } from '@base-ui/react/alert-dialog';
import { useEffect, useState, type ComponentProps, type ReactNode } from 'react';
import { t } from '../words/words.js';
import { Button } from './button.js';

interface Question {
  /** Names the object. */
  readonly title: string;
  readonly text: string;
  readonly isDangerous?: boolean;
  /** A text that must be typed first. */
  readonly typed?: string;
  /** Whether the fields have what the action needs. */
  readonly isReady?: boolean;
  /** Fields between the text and the buttons. */
  readonly children?: ReactNode;
  /** The dialog closes when it has ended. */
  readonly run: () => Promise<unknown>;
}

interface ConfirmButtonProps extends Question {
  /** The word of the button, and of the button in the dialog that does it. */
  readonly label: string;
  /** How the button looks. */
  readonly button: Pick<ComponentProps<typeof Button>, 'kind' | 'icon' | 'isSmall' | 'disabled'>;
  /** Whether the button shows its icon only. */
  readonly isIconOnly?: boolean;
}

/** A button that asks before it does something that cannot be taken back. */
export function ConfirmButton({ label, button, isIconOnly = false, ...question }: ConfirmButtonProps): ReactNode {
  const [isAsking, setAsking] = useState(false);
  const ask = () => setAsking(true);
  return (
    <>
      {isIconOnly ? (
        <Button {...button} aria-label={label} title={label} onClick={ask} />
      ) : (
        <Button {...button} onClick={ask}>
          {label}
        </Button>
      )}
      <Confirm {...question} action={label} isOpen={isAsking} onClose={() => setAsking(false)} />
    </>
  );
}

interface ConfirmProps extends Question {
  readonly isOpen: boolean;
  readonly onClose: () => void;
  readonly action: string;
}

function Confirm(props: ConfirmProps): ReactNode {
  const { isOpen, onClose, title, text, action, isDangerous = false, typed, isReady = true, children, run } = props;
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
          <AlertDialog.Description render={<div className="secondary" />}>
            <p>{text}</p>
          </AlertDialog.Description>
          {children}
          {typed !== undefined && <Typed text={typed} value={given} onChange={setGiven} />}
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

interface TypedProps {
  readonly text: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
}

function Typed({ text, value, onChange }: TypedProps): ReactNode {
  return (
    <div className="field popup-field">
      <label htmlFor="typed">{t('confirm.type', { text })}</label>
      <input
        id="typed"
        className="input mono"
        autoComplete="off"
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </div>
  );
}
