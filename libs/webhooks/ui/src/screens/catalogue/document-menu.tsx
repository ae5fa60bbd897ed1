import { Menu } from '@base-ui/react/menu';
import type { ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { saveText } from '../../design/save-text.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { t } from '../../words/words.js';

const json = (value: unknown) => JSON.stringify(value, null, 2);

const DOCUMENTS: readonly (readonly [name: string, file: string, read: () => Promise<string>])[] = [
  ['OpenAPI 3.1', 'webhooks.openapi.json', async () => json(await api.getEventsOpenApi())],
  ['AsyncAPI 3.1', 'webhooks.asyncapi.json', async () => json(await api.getEventsAsyncApi())],
  ['TypeScript', 'webhooks.d.ts', () => api.getEventsTypeScript()],
];

/** Documents of all types, for tools. */
export function DocumentMenu(): ReactNode {
  const { run } = useAction(t('catalogue.not-downloaded'), async (file: string, read: () => Promise<string>) =>
    saveText(file, await read()),
  );
  return (
    <Menu.Root>
      <Menu.Trigger render={<Button icon="download">{t('catalogue.download')}</Button>} />
      <Menu.Portal>
        <Menu.Positioner align="end" sideOffset={6} className="menu-place">
          <Menu.Popup className="menu">
            {DOCUMENTS.map(([name, file, read]) => (
              <Menu.Item key={file} className="menu-item" onClick={() => void run(file, read)}>
                <span>{name}</span>
                <span className="muted">{file}</span>
              </Menu.Item>
            ))}
          </Menu.Popup>
        </Menu.Positioner>
      </Menu.Portal>
    </Menu.Root>
  );
}
