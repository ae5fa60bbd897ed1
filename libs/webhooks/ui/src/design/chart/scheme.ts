import { useSyncExternalStore } from 'react';
import { isDark } from '../../app/theme.js';

/** Whether the page is dark: drawn again when the reader, the session or the system changes it. */
export function useIsDark(): boolean {
  return useSyncExternalStore(subscribe, isDark);
}

function subscribe(notify: () => void): () => void {
  const system = window.matchMedia('(prefers-color-scheme: dark)');
  const page = new MutationObserver(notify);
  system.addEventListener('change', notify);
  page.observe(document.documentElement, { attributeFilter: ['data-theme', 'style'] });
  return () => {
    system.removeEventListener('change', notify);
    page.disconnect();
  };
}

/** A colour of tokens.css as a canvas takes it. `getPropertyValue()` would give the text `light-dark(…)`. */
export function colourOf(token: string, element: HTMLElement): string {
  const { style } = element;
  // A transition would give the colour before it.
  style.transitionProperty = 'none';
  style.color = `var(--${token})`;
  const colour = getComputedStyle(element).color;
  style.color = '';
  return colour;
}
