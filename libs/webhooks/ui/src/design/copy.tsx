import { useEffect, useState, type ReactNode } from 'react';
import { t } from '../words/words.js';
import { Button } from './button.js';
import type { IconName } from './icon.js';
import { useAction } from './use-action.js';

const SHOWN_MS = 1600;

/** Frames of other sites may have no clipboard, so a selection is the second way. */
async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'visually-hidden';
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

interface CopyProps {
  /** A function for texts that are only made when they are wanted. */
  readonly text: string | (() => Promise<string>);
  readonly label?: string;
  readonly icon?: IconName;
  readonly isSmall?: boolean;
  readonly kind?: 'secondary' | 'ghost' | 'primary';
}

/** With a label it is a button with text, else an icon. */
export function Copy({ text, label, icon = 'copy', isSmall = true, kind = 'ghost' }: CopyProps): ReactNode {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return undefined;
    const timer = setTimeout(setCopied, SHOWN_MS, false);
    return () => clearTimeout(timer);
  }, [isCopied]);
  const { isBusy, run } = useAction(t('action.not-copied'), async () => {
    await copyText(typeof text === 'string' ? text : await text());
    setCopied(true);
  });
  const name = isCopied ? t('action.copied') : (label ?? t('action.copy'));
  return (
    <Button
      kind={kind}
      isSmall={isSmall}
      icon={isCopied ? 'check' : icon}
      isBusy={isBusy}
      onClick={() => void run()}
      {...(label === undefined ? { 'aria-label': name, title: name } : {})}
    >
      {label === undefined ? undefined : name}
    </Button>
  );
}

/** An id in full, with a button that copies it. */
export function Id({ id, href }: { readonly id: string; readonly href?: string }): ReactNode {
  return (
    <span className="row id">
      {href === undefined ? (
        <code className="truncate" title={id}>
          {id}
        </code>
      ) : (
        <a href={href} className="mono truncate" title={id}>
          {id}
        </a>
      )}
      <Copy text={id} />
    </span>
  );
}
