import { createRoot } from 'react-dom/client';
import { App } from './app/app.js';
import { isEmbedded, settings } from './app/settings.js';
import { setAccent, setTheme } from './app/theme.js';
import './design/design.css';
import './screens/screens.css';
import { readFragment } from './session/token.js';

readFragment();
setTheme(settings.theme ?? 'auto');
setAccent(settings.accent);
if (isEmbedded) document.documentElement.dataset['embedded'] = '';
createRoot(document.querySelector('#root') as HTMLElement).render(<App />);
