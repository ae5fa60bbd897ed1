import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { SystemService } from 'nestjs-entity-webhooks';
import { WebhooksTelemetryModule } from 'nestjs-entity-webhooks/otel';
import { ChannelMessages } from '../support/channel-messages.js';
import { databases, type FreshDatabase } from '../support/databases.js';
import { HOUR, MINUTE, Order, ThreeAttempts } from '../support/logged-orders.js';
import { promtool } from '../support/promtool.js';
import { listenToLog } from '../support/said.js';
import { Telemetry, type Sample } from '../support/telemetry.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const RULES = resolve('docs/grafana/alerts.yml');
const BOARD = resolve('docs/grafana/webhooks.json');
const DAY = 24 * HOUR;
/** Longer than `for` of any rule, and shorter than the hours that some rules look back. */
const LATER = 25;

interface Board {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
}

/** The expressions of the board, with values for the variables of Grafana. */
async function boardExpressions(): Promise<string[]> {
  const board = JSON.parse(await readFile(BOARD, 'utf8')) as Board;
  return board.panels
    .flatMap(({ targets }) => targets.map(({ expr }) => expr))
    .map((expr) => expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'));
}

async function alertExpressions(): Promise<string[]> {
  const text = await readFile(RULES, 'utf8');
  return [...text.matchAll(/^ {8}expr: (?:>-\n)?((?:.|\n {10})+)/gm)].map(([, expr = '']) => expr);
}

/** The metrics in the table of the page, by the names that the exporter serves. */
async function documentedMetrics(): Promise<RegExp[]> {
  const page = await readFile(resolve('docs/observability.md'), 'utf8');
  const [, section = ''] = /^## Metrics$(.*?)^## /ms.exec(page) ?? [];
  const cells = section
    .split('\n')
    .filter((line) => line.startsWith('| `webhooks.'))
    .map((line) => line.split('|')[1] ?? '');
  const names = cells.flatMap((cell) => [...cell.matchAll(/`([\w.]+)`/g)].map(([, name = '']) => name));
  expect(names.length).toBeGreaterThan(20);
  // `webhooks.received` is of receivers: received.spec.ts.
  return names
    .filter((name) => name !== 'webhooks.received')
    .map((name) => new RegExp(`^${name.replaceAll('.', '_')}(?:_total|_count)?$`));
}

/** The names and patterns of names that an expression reads. */
function metricsOf(expression: string): RegExp[] {
  const patterns = [...expression.matchAll(/__name__=~"([^"]+)"/g)].map(([, pattern]) => pattern);
  const withoutLabels = expression.replaceAll(/\{[^}]*\}/g, '').replaceAll(/(?:by|on) \([^)]*\)/g, '');
  const names = [...withoutLabels.matchAll(/webhooks_\w+/g)].map(([name]) => name);
  return [...patterns, ...names].map((name) => new RegExp(`^(?:${name})$`));
}

describe('the metrics of an application under a fault', () => {
  let fresh: FreshDatabase;
  let telemetry: Telemetry;
  let app: TestApp;
  let healthy: Sample[];
  const served = new Set<string>();

  async function start(concurrency = 64): Promise<void> {
    fresh = await databases[0]!.create();
    telemetry = await new Telemetry().start();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: {
        publishedTypes: ['thing.happened'],
        payload: { maxPayloadBytes: 1_024 },
        parts: { retrySchedule: ThreeAttempts },
        dispatcher: {
          concurrency,
          concurrencyPerListener: concurrency,
          circuit: { failures: 1_000, cooldownMs: 1, maxCooldownMs: 1 },
        },
      },
      imports: [WebhooksTelemetryModule.forRoot()],
    });
    listenToLog();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    for (let n = 0; n < 20; n++) await app.dataSource.getRepository(Order).save({});
    await publish();
    await app.dispatcher.drain();
    healthy = await scrape();
  }
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    await telemetry.stop();
    await fresh.drop();
  });

  async function scrape(): Promise<Sample[]> {
    await app.app
      .get(WebhooksTelemetryModule)
      .readBacklog()
      .catch(() => undefined);
    const samples = await telemetry.samples();
    for (const { name } of samples) served.add(name);
    return samples;
  }
  const publish = () => app.webhooks.publish('thing.happened', { text: 'x'.repeat(2_000) });
  const firing = async (after?: readonly Sample[]) => firingAlerts(healthy, after ?? (await scrape()));

  it.runIf(inject('servers').promtool)('fires no alert while all is well', async () => {
    await start();
    await publish();
    await app.dispatcher.drain();
    expect(await firing()).toEqual([]);
  });

  it.runIf(inject('servers').promtool)(
    'fires for exhausted deliveries when receivers are down, and for nothing else',
    async () => {
      await start();
      await app.receiver.stop();
      for (let n = 0; n < 5; n++) await publish();
      for (let n = 0; n < 4; n++) {
        await app.dispatcher.drain();
        app.clock.advance(2 * MINUTE);
      }
      expect(await firing()).toEqual(['WebhooksExhausted']);
    },
  );

  it.runIf(inject('servers').promtool)('fires for a listener that was disabled', async () => {
    await start();
    app.receiver.respond({ status: 410 });
    await publish();
    await app.dispatcher.drain();
    // Its delivery is exhausted, too, and there were few others.
    expect(await firing()).toEqual(['WebhooksExhausted', 'WebhooksListenerDisabled']);
  });

  it.runIf(inject('servers').promtool)('says that sending is paused, and not that deliveries are late', async () => {
    await start();
    await app.app.get(SystemService).pauseSending();
    await publish();
    await app.dispatcher.drain();
    app.clock.advance(HOUR);
    expect(await firing()).toEqual(['WebhooksSendingPaused']);
  });

  it.runIf(inject('servers').promtool)('fires for events and for due deliveries when no dispatcher runs', async () => {
    await start();
    app.receiver.respond({ status: 500 });
    await publish();
    await app.dispatcher.drain();
    await publish();
    app.clock.advance(HOUR);
    const after = await scrape();
    const expected = ['WebhooksNothingSent', 'WebhooksOutboxLate', 'WebhooksQueueLate'];
    expect(await firing(after)).toEqual(expected);
    expect(await firingAlerts(withUnits(healthy), withUnits(after))).toEqual(expected);
  });

  it.runIf(inject('servers').promtool)('fires when the database is away', async () => {
    await start();
    const messages = new ChannelMessages('trouble');
    await app.dataSource.query('ALTER TABLE webhook_outbox RENAME TO away');
    app.dispatcher.start();
    await messages.first('trouble');
    messages.stop();
    await app.app
      .get(WebhooksTelemetryModule)
      .readBacklog()
      .catch(() => undefined);
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + MINUTE);
    const after = await telemetry.samples();
    vi.restoreAllMocks();
    listenToLog();
    await app.dataSource.query('ALTER TABLE away RENAME TO webhook_outbox');
    // The gauges end, because their last reading is too old. The errors go on.
    expect(await firing(after)).toEqual(['WebhooksDatabaseErrors', 'WebhooksUnmeasured']);
  });

  it.runIf(inject('servers').promtool)('fires when receivers hold all slots', async () => {
    await start(1);
    let answer = () => {};
    const isHeld = new Promise<void>((held) => {
      app.receiver.respond(async () => {
        held();
        await new Promise<void>((resolve) => (answer = resolve));
        return { status: 200 };
      });
    });
    app.dispatcher.start();
    await publish();
    await isHeld;
    expect(await firing()).toEqual(['WebhooksSlotsFull']);
    answer();
  });

  it('has every metric that the board, the alerts and the page name', async () => {
    await start();
    await publish();
    app.clock.advance(200 * DAY);
    await app.dispatcher.runChores();
    await scrape();
    const expressions = [...(await boardExpressions()), ...(await alertExpressions())];
    expect(expressions.length).toBeGreaterThan(30);
    for (const name of await documentedMetrics())
      expect(
        [...served].some((one) => name.test(one)),
        String(name),
      ).toBe(true);
    for (const expression of expressions) {
      const wanted = metricsOf(expression);
      expect(wanted.length, expression).toBeGreaterThan(0);
      for (const name of wanted)
        expect(
          [...served].some((one) => name.test(one)),
          String(name),
        ).toBe(true);
    }
  });
});

describe.runIf(inject('servers').promtool)('promtool', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'webhooks-rules-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('loads the alert rules', () => {
    expect(promtool('check', 'rules', RULES)).toMatchObject({ isPassed: true });
  });

  it('can read every expression of the board', async () => {
    const file = join(folder, 'board.json');
    const rules = (await boardExpressions()).map((expr, n) => ({ record: `board:${n}`, expr }));
    await writeFile(file, JSON.stringify({ groups: [{ name: 'board', rules }] }));
    expect(promtool('check', 'rules', file)).toMatchObject({ isPassed: true });
  });
});

/**
 * Runs the alert rules over series that have the values of `before` for a minute, and those of `after` from then on. What
 * goes on during a fault is repeated: a counter of errors that has increased increases by as much every five minutes.
 *
 * @returns the alerts that fire {@link LATER} minutes later, sorted
 */
async function firingAlerts(before: readonly Sample[], after: readonly Sample[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'webhooks-rules-'));
  try {
    const file = join(folder, 'test.json');
    await writeFile(file, JSON.stringify(ruleTest(before, after)));
    // It expects no alert, so that promtool lists those that fire.
    const { isPassed, output } = promtool('test', 'rules', file);
    const found = [...output.matchAll(/\{alertname="(\w+)"\}/g)].map(([, name = '']) => name);
    if (isPassed !== (found.length === 0)) throw new Error(`promtool could not run the rules: ${output}`);
    return found.toSorted();
  } finally {
    await rm(folder, { recursive: true });
  }
}

function ruleTest(before: readonly Sample[], after: readonly Sample[]) {
  const [old, now] = [before, after].map((samples) => new Map(samples.map((one) => [keyOf(one), one.value])));
  const input_series = [...new Set([...old!.keys(), ...now!.keys()])].map((series) => {
    const first = old!.get(series);
    const then = now!.get(series);
    const values = [first ?? '_', then === undefined ? 'stale' : valuesFrom(series, first ?? 0, then)];
    return { series, values: values.join(' ') };
  });
  const expr = 'count by (alertname) (ALERTS{alertstate="firing"})';
  const promql_expr_test = [{ expr, eval_time: `${LATER}m`, exp_samples: [] }];
  return {
    rule_files: [RULES],
    evaluation_interval: '1m',
    tests: [{ interval: '1m', input_series, promql_expr_test }],
  };
}

function keyOf({ name, labels }: Sample): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return `${name}{${pairs.join(',')}}`;
}

function valuesFrom(series: string, first: number, then: number): string {
  const goesOn = series.startsWith('webhooks_database_errors') && then > first;
  return `${then}+${goesOn ? (then - first) / 5 : 0}x40`;
}

/** The names that an OpenTelemetry Collector gives: it appends the unit. */
function withUnits(samples: readonly Sample[]): Sample[] {
  return samples.map((sample) => ({
    ...sample,
    name: sample.name.replace(/_(lag|duration|wait|age)(?=$|_(?:bucket|count|sum)$)/, '_$1_seconds'),
  }));
}
