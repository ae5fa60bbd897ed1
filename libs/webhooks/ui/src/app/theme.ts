export type Theme = 'auto' | 'light' | 'dark';

let theme: Theme = 'auto';

/** Whether the page is dark now. */
export function isDark(): boolean {
  return theme === 'auto' ? window.matchMedia('(prefers-color-scheme: dark)').matches : theme === 'dark';
}

export function setTheme(next: Theme): void {
  theme = next;
  const { dataset } = document.documentElement;
  if (next === 'auto') delete dataset['theme'];
  else dataset['theme'] = next;
}

/** The colour of the application instead of ours. */
export function setAccent(accent: string | null | undefined): void {
  if (accent == null) return;
  const { style } = document.documentElement;
  const mixed = (share: number, other: string) => `color-mix(in oklab, ${accent} ${share}%, ${other})`;
  style.setProperty('--accent', accent);
  style.setProperty('--accent-hover', mixed(88, 'black'));
  style.setProperty('--accent-text', `light-dark(${mixed(85, 'black')}, ${mixed(45, 'white')})`);
  style.setProperty('--accent-soft', `light-dark(${mixed(9, 'white')}, ${mixed(28, '#14181f')})`);
  style.setProperty('--ring', `light-dark(${accent}, ${mixed(45, 'white')})`);
}
