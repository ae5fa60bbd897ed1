import type { ReactNode } from 'react';
import { visible } from '../../design/code.js';
import { useListenerName } from '../../session/listener-names.js';
import { t } from '../../words/words.js';

/** The part of a URL by which people know a receiver. */
export function shortUrl(url: string): string {
  return visible(url.replace(/^https?:\/\//, '').replace(/\/$/, ''));
}

/** Its name, or its URL. */
export function titleOf({ name, url }: { readonly name: string | null; readonly url: string }): string {
  return name === null || name === '' ? shortUrl(url) : visible(name);
}

export function ListenerName({ id }: { readonly id: string }): ReactNode {
  const listener = useListenerName(id);
  if (listener === undefined) return <span className="muted mono">…</span>;
  if (listener === null) return <span className="muted">{t('listener.removed')}</span>;
  return <span title={listener.url}>{titleOf(listener)}</span>;
}
