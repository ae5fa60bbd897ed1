import { lazy, Suspense, useEffect, type ReactNode } from 'react';
import { Card, Page } from '../design/page.js';
import { Empty, Skeleton } from '../design/states.js';
import { LinkButton } from '../design/button.js';
import { useMe } from '../session/session.js';
import { DeliveriesScreen } from '../screens/deliveries/deliveries-screen.js';
import { DeliveryScreen } from '../screens/delivery/delivery-screen.js';
import { ListenersScreen } from '../screens/listeners/listeners-screen.js';
import { t } from '../words/words.js';
import { entriesFor, mayOpen } from './navigation.js';
import { go, href, match, usePlace } from './router.js';

const OverviewScreen = lazy(async () => ({
  default: (await import('../screens/overview/overview-screen.js')).OverviewScreen,
}));
const TasksScreen = lazy(async () => ({ default: (await import('../screens/tasks/tasks-screen.js')).TasksScreen }));
const NewTaskScreen = lazy(async () => ({
  default: (await import('../screens/tasks/new-task-screen.js')).NewTaskScreen,
}));
const TaskScreen = lazy(async () => ({ default: (await import('../screens/tasks/task-screen.js')).TaskScreen }));
const SystemScreen = lazy(async () => ({ default: (await import('../screens/system/system-screen.js')).SystemScreen }));
const EventsScreen = lazy(async () => ({ default: (await import('../screens/event/events-screen.js')).EventsScreen }));
const EventScreen = lazy(async () => ({ default: (await import('../screens/event/event-screen.js')).EventScreen }));
const CatalogueScreen = lazy(async () => ({
  default: (await import('../screens/catalogue/catalogue-screen.js')).CatalogueScreen,
}));
const EventTypeScreen = lazy(async () => ({
  default: (await import('../screens/catalogue/event-type-screen.js')).EventTypeScreen,
}));
const ListenerScreen = lazy(async () => ({
  default: (await import('../screens/listener/listener-screen.js')).ListenerScreen,
}));

const NewListenerScreen = lazy(async () => ({
  default: (await import('../screens/editor/editor-screen.js')).NewListenerScreen,
}));
const EditListenerScreen = lazy(async () => ({
  default: (await import('../screens/editor/editor-screen.js')).EditListenerScreen,
}));

type Screen = (parameters: { readonly id: string }) => ReactNode;

/** The first pattern that fits decides. */
const SCREENS: readonly (readonly [pattern: string, screen: Screen])[] = [
  ['/overview', () => <OverviewScreen />],
  ['/deliveries', () => <DeliveriesScreen />],
  ['/deliveries/:id', ({ id }) => <DeliveryScreen key={id} id={id} />],
  ['/events', () => <EventsScreen />],
  ['/events/:id', ({ id }) => <EventScreen key={id} id={id} />],
  ['/catalogue', () => <CatalogueScreen />],
  ['/catalogue/:id', ({ id }) => <EventTypeScreen key={id} type={id} />],
  ['/tasks', () => <TasksScreen />],
  ['/tasks/new', () => <NewTaskScreen />],
  ['/tasks/:id', ({ id }) => <TaskScreen key={id} id={id} />],
  ['/system', () => <SystemScreen />],
  ['/listeners', () => <ListenersScreen />],
  ['/listeners/new', () => <NewListenerScreen />],
  ['/listeners/:id/edit', ({ id }) => <EditListenerScreen key={id} id={id} />],
  ['/listeners/:id', ({ id }) => <ListenerScreen key={id} id={id} />],
];

export function Routes(): ReactNode {
  const { path } = usePlace();
  const me = useMe();
  const home = entriesFor(me)[0]?.path;
  useEffect(() => {
    if (path === '/' && home !== undefined) go(href(home), { replace: true });
  }, [path, home]);
  useEffect(() => {
    // Newer browsers return a promise, which is no clean-up of an effect.
    window.scrollTo(0, 0);
  }, [path]);
  // Without a request, which the API would refuse.
  if (!mayOpen(me, path)) return <NotAllowed home={home} />;
  for (const [pattern, screen] of SCREENS) {
    const parameters = match(pattern, path);
    if (parameters) {
      return <Suspense fallback={<Waiting />}>{screen(parameters as { readonly id: string })}</Suspense>;
    }
  }
  return path === '/' ? <Waiting /> : <NoScreen home={home} />;
}

function Waiting(): ReactNode {
  return (
    <div className="content">
      <Skeleton lines={6} />
    </div>
  );
}

function NotAllowed({ home }: { readonly home: string | undefined }): ReactNode {
  return (
    <Page title={t('failure.forbidden')}>
      <Card>
        <Empty
          icon="lock"
          title={t('failure.forbidden')}
          text={t('failure.forbidden.text')}
          action={home !== undefined && <LinkButton href={href(home)}>{t('app.home')}</LinkButton>}
        />
      </Card>
    </Page>
  );
}

function NoScreen({ home }: { readonly home: string | undefined }): ReactNode {
  return (
    <Page title={t('app.no-screen')}>
      <Card>
        <Empty
          icon="search"
          title={t('app.no-screen')}
          text={t('app.no-screen.text')}
          action={home !== undefined && <LinkButton href={href(home)}>{t('app.home')}</LinkButton>}
        />
      </Card>
    </Page>
  );
}
