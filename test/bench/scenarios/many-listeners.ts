import { expectCount, type Bench, type Scenario } from '../scenario.js';
import { CHANGED_OPTIONS } from './backlog.js';

/** One of 100 events has a listener. The other events are only routed. */
const WANTED_OF = 100;
const UNWANTED_TOPIC = -1;

export const manyListeners: Scenario = {
  name: 'many-listeners',
  what: 'the time to route an event among many listeners, each of which filters for a different value',
  databases: ['postgres'],
  async run(bench) {
    const events = bench.count({ short: 200, usual: 10_000, full: 20_000 });
    const counts = {
      short: [10, 100, 1_000],
      usual: [10, 10_000, 1_000_000],
      full: [10, 10_000, 1_000_000],
    }[bench.size];
    const wanted = Math.ceil(events / WANTED_OF);
    const us: number[] = [];
    for (const listeners of counts) us.push(await routingUs(bench, { listeners, topics: 'own', events, wanted }));
    const [atFew = Number.NaN, , atMost = Number.NaN] = us;
    return [
      {
        name: 'many-listeners',
        database: 'postgres',
        unit: 'us per event',
        value: atMost,
        ratios: { ratioToTenListeners: atMost / atFew },
        targets: { ratioToTenListeners: { atMost: 2 } },
        options: { ...CHANGED_OPTIONS, listeners: counts.at(-1), events, eventsForSomebody: wanted },
        details: Object.fromEntries(counts.map((listeners, i) => [`usWith${listeners}Listeners`, us[i] ?? Number.NaN])),
      },
    ];
  },
};

export const noEquality: Scenario = {
  name: 'no-equality',
  what: 'the time to route an event among listeners whose filter has a range only',
  databases: ['postgres'],
  async run(bench) {
    const listeners = bench.count({ short: 100, usual: 10_000, full: 10_000 });
    const events = bench.count({ short: 20, usual: 200, full: 500 });
    const us = await routingUs(bench, { listeners, topics: 'range', events, wanted: 0 });
    return [
      {
        name: 'no-equality',
        database: 'postgres',
        unit: 'us per event',
        value: us,
        ratios: {},
        options: { ...CHANGED_OPTIONS, listeners, events, filter: '{ topic: { gt: 0 } }', eventsForSomebody: 0 },
        details: { nsPerListener: (us * 1_000) / listeners },
      },
    ];
  },
};

async function routingUs(
  bench: Bench,
  what: { listeners: number; topics: 'own' | 'range'; events: number; wanted: number },
): Promise<number> {
  const { listeners, topics, events, wanted } = what;
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addManyListeners', { count: listeners, topics, url });
  const worker = bench.start('application', true);
  await worker.call('open', { database });
  // Once to warm up, and once to measure.
  let us = Number.NaN;
  for (let round = 0; round < 2; round++) {
    await writer.call('save', topicsOf(events, wanted, listeners));
    await receiver.call('reset');
    const routed = await worker.call('route', events);
    expectCount('events routed', routed.events, events);
    expectCount('deliveries made', routed.attempts, wanted);
    expectCount('requests received', (await receiver.call('received')).unique, wanted);
    us = (routed.seconds * 1e6) / events;
  }
  await bench.end();
  return us;
}

/** Topics of events. Events with a listener are spread over the backlog and over the listeners. */
function topicsOf(events: number, wanted: number, listeners: number): number[] {
  const every = wanted ? Math.floor(events / wanted) : Infinity;
  const stride = wanted ? Math.max(1, Math.floor(listeners / wanted)) : 0;
  return Array.from({ length: events }, (_, i) =>
    i % every === 0 && i / every < wanted ? ((i / every) * stride) % listeners : UNWANTED_TOPIC,
  );
}
