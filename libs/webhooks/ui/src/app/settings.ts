/** What the server writes into the page: the same for everybody. */
export interface Settings {
  readonly page: 'dashboard' | 'portal';
  readonly parents: readonly string[];
  readonly locales: readonly string[];
  readonly accent?: string;
  readonly logo?: string;
  readonly theme?: 'auto' | 'light' | 'dark';
  readonly messages?: Readonly<Record<string, string>>;
}

function readSettings(): Settings {
  const content = document.querySelector('meta[name="webhooks-settings"]')?.getAttribute('content');
  return JSON.parse(content ?? '{}') as Settings;
}

export const settings = readSettings();

/** Whether another page shows this page in a frame. */
export const isEmbedded = window.parent !== window;
