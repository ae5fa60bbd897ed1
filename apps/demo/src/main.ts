import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { DeliveryService, generateSecret } from 'nestjs-entity-webhooks';
import { AppModule } from './app.module.js';
import { pageUrls } from './dashboard/dashboard.module.js';
import { type DemoDatabase, freshDatabase } from './demo-database.js';
import { ReceiverService } from './receiver/receiver.service.js';
import { ShowcaseService } from './showcase/showcase.service.js';
import { receivedLine } from './tour/received-line.js';
import { TourService } from './tour/tour.service.js';
import { urlsToTry } from './tour/urls-to-try.js';

const SECOND = 1_000;
const KIB = 1_024;

const print = (line: string) => void process.stdout.write(`${line}\n`);

/** Plays the tour. With `--once`, the program ends after the tour. Otherwise the shop stays open until Ctrl-C. */
async function main(): Promise<void> {
  const { once: isOnce } = parseArgs({ options: { once: { type: 'boolean', default: false } } }).values;
  const port = portOf(process.env['PORT'], isOnce);
  const database = await freshDatabase(process.env['DATABASE_URL']);
  try {
    const app = await createApp(database);
    try {
      await app.listen(port, '127.0.0.1');
      const baseUrl = await app.getUrl();
      print(`A shop at ${baseUrl}, on ${database.label}`);
      const isAsExpected = await playTour(app, baseUrl);
      if (!isAsExpected) process.exitCode = 1;
      if (!isOnce) await stayOpen(app, baseUrl);
    } finally {
      await app.close();
    }
  } finally {
    await database.discard();
  }
}

/** Returns the port of the shop. With `--once`, any free port (0) is suitable, because only the demo itself sends requests. */
function portOf(given: string | undefined, isOnce: boolean): number {
  const port = Number(given ?? (isOnce ? 0 : 3_000));
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new Error(`Invalid value '${given}' for PORT. Allowed: a whole number from 0 to 65535.`);
  }
  return port;
}

async function createApp({ options }: DemoDatabase): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(AppModule.on(options), {
    rawBody: true,
    logger: ['warn', 'error', 'fatal'],
    abortOnError: false,
  });
  // A payload may have 256 KiB, but the default limit of Express is 100 KiB.
  app.useBodyParser('json', { limit: 256 * KIB });
  return app;
}

async function playTour(app: NestExpressApplication, baseUrl: string): Promise<boolean> {
  app.get(ReceiverService).onReceived((received) => {
    if (!ShowcaseService.isPart(received)) print(receivedLine(received));
  });
  const { expected, problems } = await app.get(TourService).play({ baseUrl, print, deadlineMs: 30 * SECOND });
  if (problems.length === 0) {
    print(`\nAll ${expected} webhooks arrived, verified with the standardwebhooks package, and nothing else did.`);
    return true;
  }
  print('\nThe tour failed:');
  for (const problem of problems) print(`  ${problem}`);
  return false;
}

async function stayOpen(app: NestExpressApplication, baseUrl: string): Promise<void> {
  // The page shows the failing listener. Its warnings would scroll the URLs away.
  app.useLogger(['error', 'fatal']);
  const secret = generateSecret();
  app.get(ReceiverService).open('inbox', secret);
  const [newest] = (await app.get(DeliveryService).list({ limit: 1 })).items;
  const { dashboard, portal } = await pageUrls(baseUrl, await app.get(ShowcaseService).play(baseUrl));
  print('\nThe shop stays open; Ctrl-C closes it. Try:');
  for (const line of urlsToTry(baseUrl, secret, newest?.id ?? '')) print(`  ${line}`);
  print('\nOpen in a browser, logged in for 8 hours:');
  print(`  Dashboard  ${dashboard}`);
  print(`  Portal     ${portal}`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
}

main().catch((error: unknown) => {
  const { message, code } = error as { message?: string; code?: string };
  const fix = code === 'EADDRINUSE' ? '. Set PORT to another port.' : '';
  print(`The demo could not run: ${message || code || String(error)}${fix}`);
  process.exitCode = 1;
});
