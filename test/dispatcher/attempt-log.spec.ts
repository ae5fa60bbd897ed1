import { PassThrough } from 'node:stream';
import { ConsoleLogger, Logger, type DynamicModule, type LoggerService } from '@nestjs/common';
import { Logger as PinoLogger, LoggerModule } from 'nestjs-pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { LogOptions } from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { MINUTE, ThreeAttempts } from '../support/logged-orders.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const OWNER = 'acme\nERROR nothing is wrong';
const ACTOR = 'ann\nERROR nothing is wrong';

interface Line {
  readonly level: string;
  readonly [key: string]: unknown;
}

describe('the log of attempts', () => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let id: string;

  async function start(log?: LogOptions, imports: DynamicModule[] = []): Promise<void> {
    fresh = await databases[0]!.reuse();
    app = await startApp({
      database: fresh.options,
      entities: [],
      imports,
      webhooks: {
        log,
        publishedTypes: ['thing.happened'],
        parts: { retrySchedule: ThreeAttempts },
      },
    });
    ({ id } = await app.listeners.create({ events: ['*'], url: `${app.receiver.url}?token=hidden`, owner: OWNER }));
  }
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    await fresh.drop();
    Logger.overrideLogger(new ConsoleLogger({ logLevels: ['error', 'warn'] }));
  });

  const publish = () =>
    app.webhooks.publish(
      'thing.happened',
      { private: 'payload' },
      { owner: OWNER, context: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' } },
    );
  async function attempts(...statuses: number[]): Promise<void> {
    app.receiver.respond(statuses.map((status) => ({ status })));
    await publish();
    for (const _ of statuses) {
      await app.dispatcher.drain();
      app.clock.advance(2 * MINUTE);
    }
  }

  async function resend(status: number): Promise<void> {
    app.receiver.respond({ status });
    const [delivery] = (await app.deliveries.list()).items;
    await app.deliveries.withActor(ACTOR).resend(delivery?.id ?? '');
    await app.dispatcher.drain();
  }

  describe('as objects', () => {
    let lines: Line[];

    function collect(): void {
      lines = [];
      for (const level of ['error', 'warn', 'debug'] as const) {
        vi.spyOn(Logger.prototype, level).mockImplementation(
          (line: unknown) => void lines.push({ level, ...(line as object) }),
        );
      }
    }

    it('has a failed attempt as a warning, and one that exhausts its delivery as an error, by default', async () => {
      await start(undefined);
      collect();
      await attempts(500, 500, 500);
      expect(lines.map(({ level, attempt, state }) => [level, attempt, state])).toEqual([
        ['warn', 1, 'due'],
        ['warn', 2, 'due'],
        ['error', 3, 'exhausted'],
      ]);
      expect(lines[0]).toEqual({
        level: 'warn',
        msg: 'webhook attempt',
        event: expect.stringMatching(/^evt_/) as string,
        type: 'thing.happened',
        delivery: expect.stringMatching(/^dlv_/) as string,
        listener: id,
        url: app.receiver.url,
        owner: OWNER,
        attempt: 1,
        trigger: 'schedule',
        triggeredBy: null,
        outcome: 'rejected',
        state: 'due',
        status: 500,
        error: 'HTTP_STATUS',
        durationMs: expect.any(Number) as number,
        nextAt: expect.stringMatching(/^\d{4}-.*Z$/) as string,
        traceId: '0af7651916cd43dd8448eb211c80319c',
        bytes: app.receiver.requests[0]?.rawBody.length,
      });
      expect(JSON.stringify(lines)).not.toMatch(/hidden|payload/);
    });

    it('says why an attempt was made, and who asked for it', async () => {
      await start();
      await attempts(500);
      collect();
      await resend(500);
      expect(lines).toMatchObject([{ attempt: 2, trigger: 'resend', triggeredBy: ACTOR }]);
    });

    it('has an attempt that disables its listener as one error with the reason', async () => {
      await start();
      collect();
      await attempts(410);
      expect(lines).toMatchObject([
        { level: 'error', state: 'exhausted', disabled: 'the endpoint answered 410 Gone', status: 410 },
      ]);
    });

    it('has no accepted attempt by default, and all of them at the level debug if wanted', async () => {
      await start();
      collect();
      await attempts(200);
      expect(lines).toEqual([]);
      await app.close();
      await fresh.drop();
      vi.restoreAllMocks();
      await start({ attempts: 'all' });
      collect();
      await attempts(200);
      expect(lines).toMatchObject([{ level: 'debug', state: 'succeeded', status: 200, nextAt: null }]);
    });

    it('has no attempt if none is wanted, but texts about what needs attention', async () => {
      await start({ attempts: 'none' });
      const texts: string[] = [];
      vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void texts.push(String(text)));
      await attempts(500, 500, 500);
      expect(texts).toEqual([expect.stringContaining('is exhausted after 3 attempts: 500.')]);
    });
  });

  describe('through a logger', () => {
    let output: string;
    const overridden = (logger: LoggerService) => {
      Logger.overrideLogger(logger);
      output = '';
      for (const stream of [process.stdout, process.stderr]) {
        vi.spyOn(stream, 'write').mockImplementation((text) => {
          output += String(text);
          return true;
        });
      }
    };
    beforeEach(() => start());

    it('for people has one line, in which no text of others begins a new one', async () => {
      overridden(new ConsoleLogger({ colors: false }));
      await attempts(500);
      vi.restoreAllMocks();
      const written = output.split('\n').filter(Boolean);
      expect(written).toHaveLength(1);
      expect(written[0]).toContain(`to ${id} (${app.receiver.url}, owner ${JSON.stringify(OWNER)}) was rejected: 500`);
    });

    it('for people says who asked for an attempt, and does not name the schedule', async () => {
      overridden(new ConsoleLogger({ colors: false }));
      await attempts(500);
      await resend(500);
      vi.restoreAllMocks();
      const written = output.split('\n').filter(Boolean);
      expect(written).toHaveLength(2);
      expect(written[0]).toContain('Attempt 1 of delivery dlv_');
      expect(written[1]).toContain(`Attempt 2 (resend by ${JSON.stringify(ACTOR)}) of delivery dlv_`);
    });

    it('that writes JSON has the object', async () => {
      overridden(new ConsoleLogger({ json: true }));
      await attempts(500);
      vi.restoreAllMocks();
      const written = output.split('\n').filter(Boolean);
      expect(written.map((line) => JSON.parse(line) as unknown)).toMatchObject([
        {
          level: 'warn',
          context: 'Webhooks',
          message: { msg: 'webhook attempt', listener: id, status: 500, owner: OWNER },
        },
      ]);
    });
  });

  it('through nestjs-pino has the fields beside those of pino', async () => {
    const stream = new PassThrough();
    await start(undefined, [LoggerModule.forRoot({ pinoHttp: [{ level: 'debug' }, stream] })]);
    app.app.useLogger(app.app.get(PinoLogger));
    await attempts(500);
    const lines = String(stream.read() ?? '')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ msg }) => msg === 'webhook attempt');
    const WARN = 40;
    expect(lines).toMatchObject([{ level: WARN, context: 'Webhooks', listener: id, status: 500, owner: OWNER }]);
  });
});
