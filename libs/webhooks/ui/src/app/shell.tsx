import { useState, type ReactNode } from 'react';
import { Button } from '../design/button.js';
import { Choice } from '../design/choice.js';
import { Icon } from '../design/icon.js';
import { Banner } from '../design/page.js';
import { useInMiddle } from '../design/scroll-aside.js';
import { forgetLastDays } from '../session/last-day.js';
import { forgetListeners } from '../session/listener-names.js';
import { useMe } from '../session/session.js';
import { chooseShard, useShards } from '../session/shards.js';
import { forgetLoaded } from '../session/use-loaded.js';
import { t } from '../words/words.js';
import { entriesFor } from './navigation.js';
import { href, usePlace } from './router.js';
import { isEmbedded, settings } from './settings.js';
import { Shortcuts } from './shortcuts.js';
import { isDark, setTheme } from './theme.js';

/** The frame around every screen: navigation, and who is logged in. */
export function Shell({ children }: { readonly children: ReactNode }): ReactNode {
  const isPortal = settings.page === 'portal';
  return (
    <div className={isPortal ? 'shell top' : 'shell'}>
      <a className="skip" href={window.location.hash} onClick={skip}>
        {t('app.skip')}
      </a>
      <header className="sidebar">
        {!isEmbedded && <Brand />}
        <ShardChoice />
        <Navigation />
        <Foot />
      </header>
      <main className="main" id="main" tabIndex={-1}>
        <MissingShards />
        {children}
      </main>
      <Shortcuts />
    </div>
  );
}

function skip(event: React.MouseEvent): void {
  event.preventDefault();
  document.querySelector<HTMLElement>('#main')?.focus();
}

function Brand(): ReactNode {
  const logo = useMe().logo ?? settings.logo;
  return (
    <a className="brand" href={href('/')}>
      {logo === undefined ? (
        <>
          <span className="brand-mark">
            <Icon name="listeners" size={17} />
          </span>
          {t('app.name')}
        </>
      ) : (
        <img src={logo} alt={t('app.name')} />
      )}
    </a>
  );
}

/** Operators of several databases choose whose rows the page shows. */
function ShardChoice(): ReactNode {
  const { shards = [] } = useMe();
  const { chosen } = useShards();
  if (shards.length === 0) return null;
  const choose = (shard: string) => {
    forgetLoaded();
    forgetListeners();
    forgetLastDays();
    chooseShard(shard);
  };
  return <Choice label={t('app.shard')} value={chosen} options={shards.map((one) => [one, one])} onChange={choose} />;
}

/** The rows of a database that does not answer are missing in every list. */
function MissingShards(): ReactNode {
  const { missing } = useShards();
  return (
    <div role="status">
      {missing.length > 0 && (
        <Banner tone="red" title={t('app.missing', { shards: missing.join(', ') })}>
          <p>{t('app.missing.text')}</p>
        </Banner>
      )}
    </div>
  );
}

function Navigation(): ReactNode {
  const { path } = usePlace();
  const entries = entriesFor(useMe());
  const current = entries.find((entry) => path.startsWith(entry.path)) ?? (path === '/' ? entries[0] : undefined);
  // On narrow screens the entries scroll.
  const nav = useInMiddle<HTMLElement>('[aria-current]', current?.path);
  return (
    <nav ref={nav} className="nav" aria-label={t('app.navigation')}>
      {entries.map((entry) => (
        <a key={entry.path} href={href(entry.path)} {...(entry === current && { 'aria-current': 'page' })}>
          <Icon name={entry.icon} size={17} />
          {t(entry.text)}
        </a>
      ))}
    </nav>
  );
}

function Foot(): ReactNode {
  const { actor, owner, kind, instance } = useMe();
  const who = actor ?? owner ?? t('app.operator');
  return (
    <div className="sidebar-foot">
      {settings.page === 'dashboard' && (
        <div className="who">
          <span className="avatar" aria-hidden="true">
            {who.slice(0, 1)}
          </span>
          <div className="grow">
            <div className="truncate strong" title={who}>
              {who}
            </div>
            <div className="muted truncate">{kind === 'operator' ? t('app.instance', { instance }) : owner}</div>
          </div>
        </div>
      )}
      {!isEmbedded && <ThemeSwitch />}
    </div>
  );
}

function ThemeSwitch(): ReactNode {
  const [dark, setDark] = useState(isDark);
  const change = () => {
    setTheme(dark ? 'light' : 'dark');
    setDark(!dark);
  };
  const name = t(dark ? 'app.theme.light' : 'app.theme.dark');
  return <Button kind="ghost" icon={dark ? 'sun' : 'moon'} onClick={change} aria-label={name} title={name} />;
}
