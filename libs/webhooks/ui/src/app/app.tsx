import { CSPProvider } from '@base-ui/react/csp-provider';
import { useCallback, useEffect, useState, type ReactNode } from 'react';
import { Empty, Failed } from '../design/states.js';
import { Button, LinkButton } from '../design/button.js';
import { Toasts } from '../design/toast.js';
import { api, failureOf, onSessionOver } from '../session/api.js';
import { forgetListeners, preloadListeners } from '../session/listener-names.js';
import { forgetLastDays } from '../session/last-day.js';
import { MeContext, type Me } from '../session/session.js';
import { useShards } from '../session/shards.js';
import { forgetToken, hasParent, listenToParent, mayStay, renewToken, tellParent } from '../session/token.js';
import { forgetLoaded } from '../session/use-loaded.js';
import { t, useLanguage as loadLanguage } from '../words/words.js';
import { Boundary } from './boundary.js';
import { Routes } from './routes.js';
import { go, href, isAtStart } from './router.js';
import { isEmbedded } from './settings.js';
import { Shell } from './shell.js';
import { setAccent, setTheme } from './theme.js';
import { useTellParent } from './use-tell-parent.js';

const MINUTE = 60_000;
/** A new token is asked for so long before the old one ends. */
const RENEW_BEFORE_MS = 5 * MINUTE;
/** An embedded page waits so long for its token before it says that there is none. */
const TOKEN_PATIENCE_MS = 8000;

type State =
  | { readonly name: 'starting' }
  | { readonly name: 'ready'; readonly me: Me }
  | { readonly name: 'failed'; readonly error: unknown }
  | { readonly name: 'over'; readonly returnUrl: string | null };

export function App(): ReactNode {
  const [state, setState] = useState<State>({ name: 'starting' });
  const start = useCallback(async () => {
    try {
      const me: Me = await api.getMe();
      if (!mayStay(me)) {
        forgetToken();
        await loadLanguage([me.locale, ...navigator.languages]);
        setState({ name: 'over', returnUrl: me.returnUrl });
        return;
      }
      if (me.theme) setTheme(me.theme);
      setAccent(me.accent);
      if (me.next !== null && isAtStart()) go(href(me.next), { replace: true });
      await loadLanguage([me.locale, ...navigator.languages]);
      if ((me.can as readonly string[]).includes('listeners:read')) void preloadListeners();
      setState({ name: 'ready', me });
    } catch (error) {
      // Nobody said which language is wanted.
      await loadLanguage(navigator.languages);
      setState(failureOf(error) === 'session-over' ? { name: 'over', returnUrl: null } : { name: 'failed', error });
    }
  }, []);
  useEffect(() => {
    listenToParent(() => void start());
    if (!isEmbedded) {
      void start();
      return undefined;
    }
    // The page around this one brings the token. A page of the same origin may rely on its login instead.
    const timer = setTimeout(() => {
      if (!hasParent()) void start();
    }, TOKEN_PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [start]);
  const me = state.name === 'ready' ? state.me : null;
  useRenewal(me, start);
  useTellParent();
  useEffect(
    () =>
      onSessionOver(() => {
        tellParent({ type: 'webhooks:error', code: 'SESSION_OVER' });
        forgetLoaded();
        forgetListeners();
        forgetLastDays();
        setState({ name: 'over', returnUrl: me?.returnUrl ?? null });
      }),
    [me],
  );
  return (
    <CSPProvider disableStyleElements>
      <Toasts>
        <Content state={state} retry={() => void start()} />
      </Toasts>
    </CSPProvider>
  );
}

function Content({ state, retry }: { readonly state: State; readonly retry: () => void }): ReactNode {
  switch (state.name) {
    case 'starting':
      return (
        <div className="center-screen" role="status">
          <span className="visually-hidden">{t('app.loading')}</span>
        </div>
      );
    case 'failed':
      return (
        <main className="center-screen">
          <Failed error={state.error} retry={retry} />
        </main>
      );
    case 'over':
      return <Over returnUrl={state.returnUrl} retry={retry} />;
    case 'ready':
      return (
        <MeContext value={state.me}>
          <Shell>
            <Boundary>
              <ShownRoutes />
            </Boundary>
          </Shell>
        </MeContext>
      );
  }
}

/** Every screen begins again with another shard. */
function ShownRoutes(): ReactNode {
  return <Routes key={useShards().chosen} />;
}

function Over({ returnUrl, retry }: { readonly returnUrl: string | null; readonly retry: () => void }): ReactNode {
  return (
    <main className="center-screen">
      <div role="alert">
        <Empty
          icon="lock"
          title={t('failure.session-over')}
          text={t('failure.session-over.text')}
          action={
            <>
              {returnUrl !== null && (
                <LinkButton kind="primary" href={returnUrl} target="_top">
                  {t('app.return')}
                </LinkButton>
              )}
              <Button icon="refresh" onClick={retry}>
                {t('action.retry')}
              </Button>
            </>
          }
        />
      </div>
    </main>
  );
}

/** Asks the page around this one for a new token before the old one ends. */
function useRenewal(me: Me | null, restart: () => Promise<void>): void {
  useEffect(() => {
    if (me?.expiresAt == null || !hasParent()) return undefined;
    const inMs = Math.max(new Date(me.expiresAt).getTime() - Date.now() - RENEW_BEFORE_MS, MINUTE / 2);
    const renew = async () => {
      if ((await renewToken()) !== undefined) await restart();
    };
    const timer = setTimeout(() => void renew(), Math.min(inMs, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  }, [me, restart]);
}
