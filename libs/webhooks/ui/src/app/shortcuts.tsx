import { Dialog } from '@base-ui/react/dialog';
import { useEffect, useRef, useState, type ReactNode } from 'react';
import { Button } from '../design/button.js';
import { useMe } from '../session/session.js';
import { t } from '../words/words.js';
import { entriesFor } from './navigation.js';
import { go, href } from './router.js';

/** Between `g` and the letter of a screen. */
const CHORD_MS = 1200;
/** Whether single keys act. Kept while the page is open only, because the page stores nothing. */
let isOn = true;

/** Keys for people who do not reach for the mouse. `?` shows them, and there they can be switched off (WCAG 2.1.4). */
export function Shortcuts(): ReactNode {
  const me = useMe();
  const [isHelpOpen, setHelpOpen] = useState(false);
  const chordAt = useRef(0);
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === '?') return setHelpOpen(true);
      if (!isOn) return;
      const isChord = Date.now() - chordAt.current < CHORD_MS;
      chordAt.current = event.key === 'g' ? Date.now() : 0;
      if (isChord) {
        const entry = entriesFor(me).find(({ key }) => key === event.key);
        if (entry) go(href(entry.path));
      } else if (act(event.key)) {
        event.preventDefault();
      }
    };
    document.addEventListener('keydown', press);
    return () => document.removeEventListener('keydown', press);
  }, [me]);
  return <Help isOpen={isHelpOpen} onClose={() => setHelpOpen(false)} />;
}

function isTyping({ target }: KeyboardEvent): boolean {
  return (
    target instanceof HTMLElement &&
    target.closest('input, textarea, select, [contenteditable], [role="dialog"]') !== null
  );
}

/** @returns whether the key did something */
function act(key: string): boolean {
  switch (key) {
    case '/':
      return focus('[data-search]');
    case 'j':
      return move(1);
    case 'k':
      return move(-1);
    case 'x':
      return select();
    case 'r': {
      const button = document.querySelector<HTMLElement>('[data-shortcut="r"]');
      button?.click();
      return button !== null;
    }
    default:
      return false;
  }
}

function focus(selector: string): boolean {
  const element = document.querySelector<HTMLElement>(selector);
  element?.focus();
  return element !== null;
}

/** Moves between the rows of a list; Enter opens the row, because the row is a link. */
function move(by: number): boolean {
  const rows = [...document.querySelectorAll<HTMLElement>('.row-link')].toSorted(
    (a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top,
  );
  const at = rows.indexOf(document.activeElement as HTMLElement);
  const next = rows[at < 0 ? 0 : at + by];
  next?.focus();
  return next !== undefined;
}

/** Selects the row that has the focus, or takes it out of the selection. */
function select(): boolean {
  const box = document.activeElement?.closest('.grid-row')?.querySelector<HTMLElement>('input[type="checkbox"]');
  box?.click();
  return Boolean(box);
}

function Help({ isOpen, onClose }: { readonly isOpen: boolean; readonly onClose: () => void }): ReactNode {
  const me = useMe();
  const [isEnabled, setEnabled] = useState(isOn);
  const keys: readonly (readonly [keys: readonly string[], text: string])[] = [
    ...entriesFor(me).map((entry) => [['g', entry.key], t(entry.text)] as const),
    [['/'], t('keys.search')],
    [['j', 'k'], t('keys.rows')],
    [['Enter'], t('keys.open')],
    [['x'], t('keys.select')],
    [['r'], t('keys.resend')],
    [['?'], t('keys.help')],
  ];
  return (
    <Dialog.Root open={isOpen} onOpenChange={(isNowOpen) => !isNowOpen && onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="popup-backdrop" />
        <Dialog.Popup className="popup">
          <Dialog.Title>{t('keys.title')}</Dialog.Title>
          <dl className="keys">
            {keys.map(([names, text]) => (
              <div key={names.join(' ')}>
                <dt>{text}</dt>
                <dd className="row">
                  {names.map((name) => (
                    <kbd key={name} className="kbd">
                      {name}
                    </kbd>
                  ))}
                </dd>
              </div>
            ))}
          </dl>
          <label className="check">
            <input
              type="checkbox"
              checked={isEnabled}
              onChange={(event) => {
                isOn = event.target.checked;
                setEnabled(isOn);
              }}
            />
            {t('keys.on')}
          </label>
          <div className="popup-actions">
            <Dialog.Close render={<Button kind="primary">{t('action.close')}</Button>} />
          </div>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
