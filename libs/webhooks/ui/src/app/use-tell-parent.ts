import { useEffect } from 'react';
import { tellParent } from '../session/token.js';
import { isEmbedded } from './settings.js';
import { usePlace } from './router.js';

/** Tells the page around this one how high this page is, and where the reader is. */
export function useTellParent(): void {
  const { path } = usePlace();
  useEffect(() => tellParent({ type: 'webhooks:navigate', path }), [path]);
  useEffect(() => {
    if (!isEmbedded) return undefined;
    const root = document.querySelector('#root');
    if (!root) return undefined;
    const observer = new ResizeObserver(() => {
      tellParent({ type: 'webhooks:height', height: Math.ceil(root.getBoundingClientRect().height) });
    });
    observer.observe(root);
    return () => observer.disconnect();
  }, []);
}
