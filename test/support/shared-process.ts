import { setMaxListeners } from 'node:events';
import { Socket } from 'node:net';
import { DataSourceNameRegistry } from '../../node_modules/@nestjs/typeorm/dist/data-source-name.registry.js';
import { afterAll, beforeEach, expect, vi } from 'vitest';

/** Events of the process whose listeners would act on the suites that follow. */
const EVENTS = ['SIGINT', 'SIGTERM', 'uncaughtException', 'unhandledRejection', 'warning'] as const;
/** Servers and child processes, as `process.getActiveResourcesInfo()` names them. */
const RESOURCES = ['TCPServerWrap', 'PipeServerWrap', 'ProcessWrap'];

// Nest keeps the name of the data source of an application whose start failed, and would warn the next one.
DataSourceNameRegistry.clear();

const connect = Socket.prototype.connect;
const before = state();

// vitest adds a listener to the signal of a test for each repetition and each hook, so Node would warn of a leak in tests with `repeats`.
beforeEach(({ signal }) => setMaxListeners(0, signal));

// Many suites run in one process, one after the other. vitest runs this file before each of them, so a suite that leaves something fails
// here, and not the suite that would meet it. Mocks of `vi.spyOn()` are restored by vitest.
afterAll(async () => {
  // A server closes in one of the next turns of the event loop.
  await vi.waitFor(() => expect(state(), 'a suite puts back what it changes in the process').toEqual(before), 5_000);
});

function state() {
  const active = process.getActiveResourcesInfo();
  const open = Object.fromEntries(RESOURCES.map((name) => [name, active.filter((one) => one === name).length]));
  const listeners = Object.fromEntries(EVENTS.map((name) => [name, process.listenerCount(name)]));
  const isReal = { timers: !vi.isFakeTimers(), connect: Socket.prototype.connect === connect };
  return { open, listeners, isReal, env: { ...process.env } };
}
